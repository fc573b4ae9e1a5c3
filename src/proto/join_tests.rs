use proptest::prelude::*;

use super::*;

fn key(seed: u8) -> SigningKey {
    SigningKey::from_seed(&[seed; 32]).unwrap()
}

fn claims(token: &SigningKey) -> JoinClaims {
    JoinClaims {
        mesh: MeshId([1; 16]),
        root: ObjectId([2; 32]),
        key: token.public().bytes(),
        agent: Some(AgentId::parse("team/worker").unwrap()),
        sponsor: Some(AgentId::parse("planner").unwrap()),
        scope: Scope::parse(["sub:tasks.>", "pub+delegate:results.*"]).unwrap(),
        depth: 3,
        grant_ttl_ms: 3_600_000,
        until: Timestamp::from_millis(1_800_000_000_000),
        nonce: [3; 16],
    }
}

fn token() -> JoinToken {
    let (registrar, own) = (key(1), Arc::new(key(2)));
    JoinToken::sign(&claims(&own), (0, &registrar), own).unwrap()
}

fn fault(text: &str) -> InvalidJoinToken {
    text.parse::<JoinToken>().unwrap_err()
}

#[test]
fn a_token_survives_its_text() {
    let token = token();
    let text = token.to_text();
    assert!(text.len() <= JOIN_TOKEN_MAX);
    let read: JoinToken = format!("  {}\n", &*text).parse().unwrap();
    assert_eq!(read.claims(), token.claims());
    assert_eq!(read.id(), token.id());
    assert_eq!(read.prove(&token.id()), token.prove(&token.id()));
    assert_eq!(*read.to_text(), *text);
}

#[test]
fn a_genuine_statement_verifies_and_no_other_does() {
    let token = token();
    let registrars = [key(1).public()];
    let parse = || UnverifiedJoin::parse(token.statement()).unwrap();
    let statement = parse().verify(MeshId([1; 16]), &registrars).unwrap();
    assert_eq!(statement.claims(), token.claims());
    let id = ObjectId([9; 32]);
    assert!(statement.check_proof(&id, &token.prove(&id)).is_ok());
    assert!(
        statement
            .check_proof(&token.id(), &token.prove(&id))
            .is_err()
    );

    let other_mesh = parse().verify(MeshId([2; 16]), &registrars).unwrap_err();
    assert_eq!(other_mesh.code(), 1701);
    let other_key = parse().verify(MeshId([1; 16]), &[key(5).public()]);
    assert_eq!(other_key.unwrap_err().code(), 401);
    let no_key = parse().verify(MeshId([1; 16]), &[]).unwrap_err();
    assert_eq!(no_key.code(), 1704);
}

#[test]
fn texts_that_are_no_tokens_say_why() {
    let text = token().to_text();
    assert_eq!(fault(""), InvalidJoinToken::Prefix);
    assert_eq!(fault(&text[1..]), InvalidJoinToken::Prefix);
    assert_eq!(fault("tmj1"), InvalidJoinToken::Check);
    assert_eq!(fault("tmj1AAAAAAAA"), InvalidJoinToken::Check);
    assert_eq!(fault(&format!("{}=", &*text)), InvalidJoinToken::Encoding);
    assert_eq!(fault(&format!("{}+", &*text)), InvalidJoinToken::Encoding);
    assert_eq!(fault(&"tmj1".repeat(2000)), InvalidJoinToken::TooLong);
    for cut in 5..text.len() {
        assert!(text[..cut].parse::<JoinToken>().is_err(), "{cut}");
    }
}

#[test]
fn a_token_with_another_secret_is_refused() {
    let token = token();
    let swapped = JoinToken {
        key: Arc::new(key(7)),
        ..token
    };
    let InvalidJoinToken::Statement(why) = fault(&swapped.to_text()) else {
        panic!("another fault");
    };
    assert_eq!(why.code(), 701);
}

#[test]
fn what_no_reader_would_take_is_not_signed() {
    let (registrar, own) = (key(1), Arc::new(key(2)));
    let sign = |change: fn(&mut JoinClaims)| {
        let mut claims = claims(&own);
        change(&mut claims);
        JoinToken::sign(&claims, (0, &registrar), own.clone()).map(drop)
    };
    assert!(sign(|_| {}).is_ok());
    assert!(sign(|c| c.depth = 9).is_err());
    assert!(sign(|c| c.grant_ttl_ms = 0).is_err());
    assert!(sign(|c| c.grant_ttl_ms = u64::MAX).is_err());
    assert!(sign(|c| c.key = KeyBytes([4; 32])).is_err());
}

#[test]
fn a_token_prints_without_its_secret() {
    let token = token();
    let printed = format!("{token:?}");
    let seed = data_encoding::HEXLOWER.encode(&[2; 32]);
    assert!(printed.contains("redacted") && !printed.contains(&seed));
    assert!(!printed.contains(&token.to_text()[40..]));
}

proptest! {
    /// One character changed is always noticed, and nothing panics.
    #[test]
    fn a_slip_of_the_hand_is_noticed(at in 4usize..400, with in "[A-Za-z0-9_-]") {
        let text = token().to_text();
        let at = at % text.len();
        let mut changed = text.to_string();
        changed.replace_range(at..=at, &with);
        prop_assume!(changed != *text);
        prop_assert!(changed.parse::<JoinToken>().is_err());
    }

    #[test]
    fn any_text_is_read_or_refused(text in "(tmj1)?[A-Za-z0-9_-]{0,200}") {
        let _ = text.parse::<JoinToken>();
    }

    #[test]
    fn any_statement_is_read_or_refused(bytes: Vec<u8>) {
        let _ = UnverifiedJoin::parse(&bytes.into());
    }
}
