//! Bytes that say to be an envelope: what is read is all there is, and there is one way to say it.

#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;

use trustmesh::proto::envelope::UnverifiedEnvelope;
use trustmesh::proto::names::Tag;
use trustmesh::proto::rejection::Rejection;
use trustmesh::proto::scope::Action;
use trustmesh_fuzz::pack;

fuzz_target!(|data: &[u8]| {
    let frame = Bytes::copy_from_slice(data);
    let envelope = match UnverifiedEnvelope::parse(&frame) {
        Ok(envelope) => envelope,
        Err(rejection) => return check_rejection(&rejection),
    };

    // Read once more, and from elsewhere in memory, it is the same.
    let again = UnverifiedEnvelope::parse(&Bytes::from(data.to_vec())).expect("parsed before");
    assert_eq!(envelope.claims(), again.claims());
    assert_eq!(envelope.id(), again.id());
    assert_eq!(envelope.chain(), again.chain());

    // Nothing may follow it, and nothing be missing.
    for byte in [0x00, 0x90, 0xc0] {
        let longer = Bytes::from([data, &[byte]].concat());
        assert!(UnverifiedEnvelope::parse(&longer).is_err(), "a byte more");
    }
    let shorter = frame.slice(..frame.len() - 1);
    assert!(UnverifiedEnvelope::parse(&shorter).is_err(), "a byte less");

    // It is the one encoding of what it says, and so are the header and the proof of a batch.
    let tree = pack::read(&data[4..]).expect("MessagePack");
    assert_eq!(tree.encode(), &data[4..]);
    let header = pack::bytes_at(&tree, &[2]).expect("a byte string");
    assert!(pack::is_canonical(&header));
    assert_eq!(envelope.id(), Tag::Envelope.digest(&header));
    assert_eq!(envelope.batch().is_some(), envelope.claims().mode == 2);
    if let Some(proof) = envelope.batch() {
        let body = pack::bytes_at(&tree, &[3, 0]).expect("a byte string");
        assert!(pack::is_canonical(&body));
        assert!(proof.index() < proof.claims().size.into());
        assert!(proof.path_len() <= 8);
    }

    let claims = envelope.claims();
    let fields = (
        claims.reply.is_some(),
        claims.in_reply_to.is_some(),
        claims.audience.is_some(),
    );
    match claims.action {
        Action::Publish => assert!(matches!(fields, (false, false, _))),
        Action::Request => assert!(matches!(fields, (true, false, _))),
        Action::Serve => assert_eq!(fields, (false, true, true)),
        action => panic!("sent as {action:?}"),
    }
    assert!((1..=120_000).contains(&claims.ttl_ms) && claims.extensions.hops <= 16);
    assert!(header.len() <= 2_048 && envelope.chain().len() <= 8_192);
    let content = pack::bytes_at(&tree, &[5]).expect("a byte string");
    assert_eq!(content.len(), claims.content_len as usize);
    let fits = Tag::Content.digest(&content) == claims.content_hash;
    match envelope.content() {
        Ok(opened) => {
            assert!(fits, "content that the header does not commit to");
            assert!(pack::is_canonical(&content));
            assert!(opened.payload().len() <= content.len());
            assert!(opened.grants().len() <= 8 && opened.headers().count() <= 64);
        }
        Err(rejection) => {
            check_rejection(&rejection);
            let about_digest = matches!(rejection, Rejection::BadSignature { .. });
            assert_eq!(about_digest, !fits);
        }
    }
});

fn check_rejection(rejection: &Rejection) {
    assert_eq!(rejection.code() / 100, rejection.class() as u16);
    assert!(!rejection.to_string().is_empty());
}
