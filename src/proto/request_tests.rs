use proptest::prelude::*;

use super::*;
use crate::proto::time::Timestamp;

fn offer() -> Offer {
    Offer {
        body: vec![1; 90].into(),
        time: Timestamp::from_millis(1_800_000_000_000),
        cookie: [2; 32],
    }
}

fn requests() -> Vec<ControlRequest> {
    let link = |parent| {
        ControlRequest::Revoke(Target::Link {
            body: vec![3; 200].into(),
            signature: Signature([4; 64]),
            parent,
        })
    };
    vec![
        ControlRequest::Renew,
        ControlRequest::Rotate {
            key: KeyBytes([5; 32]),
        },
        ControlRequest::Claim {
            offer: offer(),
            possession: Signature([6; 64]),
        },
        ControlRequest::Regrant {
            chain: vec![7; 300].into(),
        },
        ControlRequest::Revoke(Target::OwnKey),
        link(None),
        link(Some(vec![8; 100].into())),
        ControlRequest::Approve {
            chain: vec![9; 300].into(),
        },
        ControlRequest::Report {
            evidence: vec![vec![1; 3].into(), vec![2; 300].into()],
        },
    ]
}

fn answers() -> Vec<ControlAnswer> {
    let mut answers: Vec<_> = EnrolRefused::ALL
        .iter()
        .map(|reason| ControlAnswer::Refused(*reason))
        .collect();
    answers.extend([
        ControlAnswer::Offer(offer()),
        ControlAnswer::Certified {
            certificate: vec![1; 400].into(),
            grant: None,
        },
        ControlAnswer::Certified {
            certificate: vec![1; 400].into(),
            grant: Some(vec![2; 300].into()),
        },
        ControlAnswer::Granted {
            chain: vec![1; 400].into(),
        },
        ControlAnswer::Done { epoch: 7 },
        ControlAnswer::Data(vec![1; 4].into()),
    ]);
    answers
}

#[test]
fn requests_and_answers_are_read_back() {
    for request in requests() {
        let bytes = request.encode();
        assert_eq!(ControlRequest::parse(&bytes).unwrap().encode(), bytes);
    }
    for answer in answers() {
        let bytes = answer.encode();
        assert_eq!(ControlAnswer::parse(&bytes).unwrap().encode(), bytes);
    }
}

#[test]
fn cut_or_extended_payloads_are_refused() {
    for request in requests() {
        let bytes = request.encode();
        for cut in 0..bytes.len() {
            assert!(ControlRequest::parse(&bytes.slice(..cut)).is_err());
        }
        let longer = [&bytes[..], &[0xc0]].concat();
        assert!(ControlRequest::parse(&longer.into()).is_err());
    }
}

#[test]
fn refusals_have_distinct_stable_numbers() {
    for (index, reason) in EnrolRefused::ALL.iter().enumerate() {
        assert_eq!(usize::from(reason.code()), index + 1);
        assert_eq!(EnrolRefused::from_code(reason.code()), Some(*reason));
    }
    assert_eq!(EnrolRefused::from_code(0), None);
}

proptest! {
    #[test]
    fn what_is_read_has_one_encoding(bytes: Vec<u8>) {
        let bytes = Bytes::from(bytes);
        if let Ok(request) = ControlRequest::parse(&bytes) {
            prop_assert_eq!(request.encode(), bytes.clone());
        }
        if let Ok(answer) = ControlAnswer::parse(&bytes) {
            prop_assert_eq!(answer.encode(), bytes);
        }
    }
}
