use super::*;
use crate::client::clock::ManualClock;
use crate::proto::policy::Policy;

const HALF_DAY: Duration = Duration::from_secs(12 * 3600);
const GRACE: Duration = Duration::from_secs(600);

struct Stage {
    mesh: Authority,
    clock: Arc<ManualClock>,
}

fn stage() -> Stage {
    let clock = Arc::new(ManualClock::at(Timestamp::from_millis(1_800_000_000_000)));
    let mesh = Authority::dev_with_clock("test", clock.clone()).unwrap();
    Stage { mesh, clock }
}

fn id(text: &str) -> AgentId {
    AgentId::parse(text).unwrap()
}

fn key() -> SigningKey {
    SigningKey::generate().unwrap()
}

fn terms() -> JoinTerms {
    JoinTerms::new(Scope::parse(["sub:tasks.>", "pub+delegate:results.*"]).unwrap())
}

impl Stage {
    fn offer(
        &self,
        token: &JoinToken,
        agent: &str,
        key: &SigningKey,
    ) -> Result<CertificateClaims, EnrolRefused> {
        let statement = self.mesh.check_statement(token.statement())?;
        let public = key.public().bytes();
        self.mesh
            .join_offer(&statement, &id(agent), &public, HALF_DAY)
    }

    fn join(
        &mut self,
        token: &JoinToken,
        agent: &str,
        key: &SigningKey,
    ) -> Result<Joining, EnrolRefused> {
        let claims = self.offer(token, agent, key)?;
        let statement = self.mesh.check_statement(token.statement())?;
        let proofs = (
            claims.prove_possession(key).unwrap(),
            token.prove(&claims.id()),
        );
        self.mesh.join(&statement, &claims, (&proofs.0, &proofs.1))
    }

    fn joined(&mut self, agent: &str) -> (SigningKey, Joining) {
        let (token, key) = (self.mesh.join_token(&terms()).unwrap(), key());
        let joining = self.join(&token, agent, &key).unwrap();
        (key, joining)
    }

    fn follow(
        &mut self,
        agent: &str,
        current: &Joining,
        key: &SigningKey,
    ) -> Result<Joining, EnrolRefused> {
        let current = certificate(current).id();
        let public = key.public().bytes();
        let claims = self
            .mesh
            .next_offer(&id(agent), &current, &public, HALF_DAY)?;
        let possession = claims.prove_possession(key).unwrap();
        self.mesh.follow(&claims, &possession, GRACE)
    }
}

fn certificate(joining: &Joining) -> UnverifiedCertificate {
    UnverifiedCertificate::parse(&joining.certificate).unwrap()
}

#[test]
fn a_token_admits_one_agent_with_its_terms() {
    let mut stage = stage();
    let (token, worker) = (stage.mesh.join_token(&terms()).unwrap(), key());
    let joining = stage.join(&token, "worker", &worker).unwrap();
    let claims = certificate(&joining).claims().clone();
    assert_eq!(claims.validity.millis(), 12 * 3_600_000);
    assert_eq!(joining.grant.unwrap().leaf().scope(), &terms().scope);
    let again = stage.join(&token, "other", &key()).unwrap_err();
    assert_eq!(again, EnrolRefused::TokenUsed);
    let again = stage.join(&token, "worker", &key()).unwrap_err();
    assert_eq!(again, EnrolRefused::TokenUsed);
}

#[test]
fn a_lost_answer_is_given_again_to_the_same_key() {
    let mut stage = stage();
    let (token, worker) = (stage.mesh.join_token(&terms()).unwrap(), key());
    let first = stage.join(&token, "worker", &worker).unwrap();
    stage.clock.advance(Duration::from_secs(5));
    let again = stage.join(&token, "worker", &worker).unwrap();
    assert_eq!(again.certificate, first.certificate);
    let bytes = |joining: &Joining| joining.grant.as_ref().unwrap().bytes().clone();
    assert_eq!(bytes(&again), bytes(&first));
}

/// ID-12: a token without authority gives a certificate and nothing else.
#[test]
fn a_token_without_scope_gives_no_authority() {
    let mut stage = stage();
    let token = stage.mesh.join_token(&JoinTerms::new(Scope::default()));
    let joining = stage.join(&token.unwrap(), "guest", &key()).unwrap();
    assert!(joining.grant.is_none());
}

/// ID-5: neither a key of another agent nor a role key can be enrolled.
#[test]
fn shared_weak_and_role_keys_are_refused() {
    let mut stage = stage();
    let (worker, _) = stage.joined("worker");
    let token = stage.mesh.join_token(&terms()).unwrap();
    let shared = stage.offer(&token, "other", &worker).unwrap_err();
    assert_eq!(shared, EnrolRefused::KeyTaken);
    let statement = stage.mesh.check_statement(token.statement()).unwrap();
    let offer = |key: KeyBytes| {
        let offered = stage
            .mesh
            .join_offer(&statement, &id("other"), &key, HALF_DAY);
        offered.unwrap_err()
    };
    for role in stage.mesh.keys.values() {
        assert_eq!(offer(role.public().bytes()), EnrolRefused::RoleKey);
    }
    let mut small_order = [0; 32];
    small_order[0] = 1;
    assert_eq!(offer(KeyBytes(small_order)), EnrolRefused::WeakKey);
    assert_eq!(offer(KeyBytes([0xff; 32])), EnrolRefused::WeakKey);
}

/// ID-4: ids that are taken, reserved, or another's by the token are refused.
#[test]
fn ids_that_are_not_to_be_had_are_refused() {
    let mut stage = stage();
    stage.joined("worker");
    let open = stage.mesh.join_token(&terms()).unwrap();
    let refused = |agent| stage.offer(&open, agent, &key()).unwrap_err();
    assert_eq!(refused("worker"), EnrolRefused::IdTaken);
    assert_eq!(refused("verifier"), EnrolRefused::Reserved);
    assert_eq!(refused("verifier/2"), EnrolRefused::Reserved);
    let named = stage.mesh.join_token(&terms().agent(id("a"))).unwrap();
    let other = stage.offer(&named, "b", &key()).unwrap_err();
    assert_eq!(other, EnrolRefused::OtherAgent);
    assert!(
        stage
            .mesh
            .join_token(&terms().agent(id("verifier")))
            .is_err()
    );
}

/// ID-11: a revoked or blocked key does not come back under a new name, nor an id with a new key.
#[test]
fn revoked_and_blocked_keys_and_ids_are_refused() {
    let mut stage = stage();
    let token = stage.mesh.join_token(&terms()).unwrap();
    let (revoked, blocked) = (key(), key());
    stage.mesh.revoke_key(revoked.public().bytes()).unwrap();
    stage.mesh.revoke_agent("gone").unwrap();
    let text = format!(
        r#"{{ "blocked": {{ "keys": ["{}"], "agents": ["shut"] }}, "rules": [] }}"#,
        blocked.public().bytes()
    );
    stage
        .mesh
        .set_policy(Policy::from_json(&text).unwrap())
        .unwrap();
    let refused = |agent, key: &SigningKey| stage.offer(&token, agent, key).unwrap_err();
    assert_eq!(refused("new", &revoked), EnrolRefused::Revoked);
    assert_eq!(refused("gone", &key()), EnrolRefused::Revoked);
    assert_eq!(refused("new", &blocked), EnrolRefused::Blocked);
    assert_eq!(refused("shut", &key()), EnrolRefused::Blocked);
}

#[test]
fn expired_foreign_and_withdrawn_tokens_are_refused() {
    let mut stage = stage();
    let token = stage.mesh.join_token(&terms()).unwrap();
    let foreign = Authority::dev("other").unwrap().join_token(&terms());
    let refused = stage.offer(&foreign.unwrap(), "w", &key()).unwrap_err();
    assert_eq!(refused, EnrolRefused::Refused);
    let mut sponsored = terms();
    sponsored.sponsor = Some(id("planner"));
    let sponsored = stage.mesh.join_token(&sponsored).unwrap();
    stage.mesh.revoke_agent("planner").unwrap();
    let refused = stage.offer(&sponsored, "w", &key()).unwrap_err();
    assert_eq!(refused, EnrolRefused::TokenRevoked);
    stage.clock.advance(Duration::from_secs(3600));
    let refused = stage.offer(&token, "w", &key()).unwrap_err();
    assert_eq!(refused, EnrolRefused::TokenExpired);
    let registrar = stage.mesh.keys[&Role::Registrar].public().bytes();
    stage.mesh.revoke_key(registrar).unwrap();
    let refused = stage.offer(&token, "w", &key()).unwrap_err();
    assert_eq!(refused, EnrolRefused::TokenRevoked);
}

#[test]
fn a_renewed_certificate_takes_the_place_of_the_old() {
    let mut stage = stage();
    let (worker, first) = stage.joined("worker");
    stage.clock.advance(Duration::from_secs(8 * 3600));
    let second = stage.follow("worker", &first, &worker).unwrap();
    let (old, new) = (certificate(&first), certificate(&second));
    assert_eq!(new.claims().previous, Some(old.id()));
    assert_eq!(new.claims().key_epoch, 0);
    assert!(new.claims().validity.until() > old.claims().validity.until());
    let late = stage.follow("worker", &first, &worker);
    // The same request again finds that certificate, not a third.
    assert_eq!(certificate(&late.unwrap()).id(), new.id());
    let trust = stage.mesh.publish().unwrap().current();
    assert_eq!(trust.certificates_of(&id("worker")).len(), 1);
}

/// RV-4: of two rotations away from one certificate, the second is refused.
#[test]
fn a_rotation_from_a_certificate_that_is_not_current_is_refused() {
    let mut stage = stage();
    let (_, first) = stage.joined("worker");
    let (second, third) = (key(), key());
    let rotated = stage.follow("worker", &first, &second).unwrap();
    let late = stage.follow("worker", &first, &third).unwrap_err();
    assert_eq!(late, EnrolRefused::NotCurrent);
    assert_eq!(certificate(&rotated).claims().key_epoch, 1);
    let grant = rotated.grant.unwrap();
    assert_eq!(grant.leaf().holder(), second.public().bytes());
}

#[test]
fn a_rotated_key_lives_through_the_grace_and_is_revoked_after_it() {
    let mut stage = stage();
    let (old, first) = stage.joined("worker");
    stage.follow("worker", &first, &key()).unwrap();
    let old = old.public().bytes();
    let trust = stage.mesh.publish().unwrap().current();
    assert_eq!(trust.certificates_of(&id("worker")).len(), 2);
    assert!(!stage.mesh.tick().unwrap());
    assert!(!stage.mesh.revocations.has_key(&old));
    stage.clock.advance(GRACE);
    assert!(stage.mesh.tick().unwrap());
    assert!(stage.mesh.revocations.has_key(&old));
    let back = stage.mesh.join_token(&terms()).unwrap();
    let statement = stage.mesh.check_statement(back.statement()).unwrap();
    let refused = stage
        .mesh
        .join_offer(&statement, &id("new"), &old, HALF_DAY);
    assert_eq!(refused.unwrap_err(), EnrolRefused::Revoked);
}

#[test]
fn a_lost_key_is_replaced_by_the_operators_word_alone() {
    let mut stage = stage();
    let (old, _) = stage.joined("worker");
    let terms = terms().agent(id("worker"));
    let unasked = stage.mesh.join_token(&terms).unwrap();
    let first = stage.mesh.recover(&terms).unwrap();
    let token = stage.mesh.recover(&terms).unwrap();
    assert!(stage.mesh.revocations.has_key(&old.public().bytes()));
    for refused in [&unasked, &first] {
        let refused = stage.offer(refused, "worker", &key()).unwrap_err();
        assert_eq!(refused, EnrolRefused::IdTaken);
    }
    let joining = stage.join(&token, "worker", &key()).unwrap();
    assert_eq!(certificate(&joining).claims().key_epoch, 1);
    assert!(stage.mesh.recover(&self::terms()).is_err());
}

#[test]
fn a_grant_is_renewed_within_its_terms_only() {
    let mut stage = stage();
    let (worker, joining) = stage.joined("worker");
    let (holder, grant) = (worker.public().bytes(), joining.grant.unwrap());
    stage.clock.advance(Duration::from_secs(3600));
    let renewed = stage.mesh.regrant(&holder, grant.bytes()).unwrap();
    let (old, new) = (grant.leaf(), renewed.leaf());
    assert_eq!(new.scope(), old.scope());
    assert_eq!(new.remaining(), old.remaining());
    assert_eq!(new.validity().millis(), old.validity().millis());
    assert!(new.validity().until() > old.validity().until());

    let (other, _) = stage.joined("other");
    let no = |stage: &Stage, holder: &KeyBytes, grant: &Chain| {
        stage.mesh.regrant(holder, grant.bytes()).unwrap_err()
    };
    let not_held = no(&stage, &other.public().bytes(), &grant);
    assert_eq!(not_held, EnrolRefused::NoGrant);
    let wide = Scope::parse(["sub:>"]).unwrap();
    let wide = stage.mesh.grant(&holder, wide, 0, GRACE).unwrap();
    assert_eq!(no(&stage, &holder, &wide), EnrolRefused::NoGrant);
    let deep = terms().scope;
    let deep = stage.mesh.grant(&holder, deep, 8, GRACE).unwrap();
    assert_eq!(no(&stage, &holder, &deep), EnrolRefused::NoGrant);
    stage.mesh.revoke_link(grant.leaf().id()).unwrap();
    assert_eq!(no(&stage, &holder, &grant), EnrolRefused::Revoked);
    stage.clock.advance(Duration::from_secs(24 * 3600));
    assert_eq!(no(&stage, &holder, &renewed), EnrolRefused::NoGrant);
}

#[cfg(unix)]
#[test]
fn used_tokens_terms_and_former_keys_survive_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let mut stage = stage();
    let (token, old) = (stage.mesh.join_token(&terms()).unwrap(), key());
    let first = stage.join(&token, "worker", &old).unwrap();
    let new = key();
    let second = stage.follow("worker", &first, &new).unwrap();
    stage.mesh.save(directory.path()).unwrap();

    stage.mesh = Authority::open_with_clock(directory.path(), stage.clock.clone()).unwrap();
    let used = stage.offer(&token, "other", &key()).unwrap_err();
    assert_eq!(used, EnrolRefused::TokenUsed);
    let current = stage.mesh.current(&id("worker")).unwrap();
    assert_eq!(current.id(), certificate(&second).id());
    let grant = second.grant.unwrap();
    assert!(
        stage
            .mesh
            .regrant(&new.public().bytes(), grant.bytes())
            .is_ok()
    );
    stage.clock.advance(GRACE);
    assert!(stage.mesh.tick().unwrap());
    assert!(stage.mesh.revocations.has_key(&old.public().bytes()));
}
