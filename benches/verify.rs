//! What verifying costs, beside the bare signatures it is made of.
//!
//! `V` is one `verify_strict` over 200 bytes, `S` one signature; everything else is read as a
//! multiple of these from the same run. No envelope is verified twice: a receiver never does that
//! either, and a repeated one would be refused as a replay before its signature.

use std::cell::RefCell;
use std::time::Duration;

use bytes::Bytes;
use criterion::BatchSize;
use criterion::Criterion;
use criterion::criterion_group;
use criterion::criterion_main;
use ed25519_dalek::Signer as _;

use trustmesh::proto::envelope::EnvelopeDraft;

#[path = "../tests/forge/mod.rs"]
mod forge;
mod receiver;

use forge::Party;
use receiver::Receiver;
use receiver::batch;
use receiver::credential;
use receiver::draft;
use receiver::garbage;
use receiver::signed;
use receiver::spoiled;

fn bare(c: &mut Criterion) {
    let key = ed25519_dalek::SigningKey::from_bytes(&Party::named("alice").seed);
    let public = key.verifying_key();
    let mut number = 0u64;
    let mut message = move || {
        number += 1;
        let mut message = [0x5a; 200];
        message[..8].copy_from_slice(&number.to_be_bytes());
        message
    };
    let mut group = c.benchmark_group("bare");
    group.bench_function("sign (S)", |b| {
        b.iter_batched(&mut message, |m| key.sign(&m), BatchSize::SmallInput);
    });
    group.bench_function("verify_strict (V)", |b| {
        let signed = || {
            let message = message();
            (message, key.sign(&message))
        };
        b.iter_batched(
            signed,
            |(m, s)| public.verify_strict(&m, &s).is_ok(),
            BatchSize::SmallInput,
        );
    });
    group.finish();
}

fn sign(c: &mut Criterion) {
    let mut group = c.benchmark_group("sign");
    for delegations in [0, 3] {
        let credential = credential(delegations);
        group.bench_function(format!("{delegations} delegations"), |b| {
            b.iter_batched(draft, |d| d.sign(&credential), BatchSize::SmallInput);
        });
    }
    group.finish();
}

fn verify(c: &mut Criterion) {
    let mut group = c.benchmark_group("verify");
    for delegations in [0, 1, 3, 8] {
        let mut receiver = Receiver::new();
        let credential = credential(delegations);
        assert!(receiver.verify(None, &signed(&credential)));
        group.bench_function(format!("warm, {delegations} delegations"), |b| {
            b.iter_batched(
                || signed(&credential),
                |frame| assert!(receiver.verify(None, &frame)),
                BatchSize::SmallInput,
            );
        });
        // The receiver is new to the chain; the trust state and its imported keys are not new.
        // Making and dropping its empty cache is not measured.
        let receiver = RefCell::new(Receiver::new());
        group.bench_function(format!("cold, {delegations} delegations"), |b| {
            b.iter_batched(
                || (receiver.borrow().cold(), signed(&credential)),
                |(cold, frame)| {
                    assert!(receiver.borrow_mut().verify(Some(&cold), &frame));
                    cold
                },
                BatchSize::LargeInput,
            );
        });
    }
    group.finish();
}

/// Envelopes that share a signature, 64 at a time.
fn batches(c: &mut Criterion) {
    const SIZE: usize = 64;
    let drafts = || -> Vec<EnvelopeDraft> { (0..SIZE).map(|_| draft()).collect() };
    let mut group = c.benchmark_group("batch of 64");
    let receiver = RefCell::new(Receiver::new());
    let credential = credential(3);
    group.bench_function("sign all, 3 delegations", |b| {
        b.iter_batched(
            drafts,
            |drafts| EnvelopeDraft::sign_together(&drafts, &credential),
            BatchSize::SmallInput,
        );
    });
    // The first of each batch, with its signature, is verified where nothing is measured.
    let stock = RefCell::new(Vec::new());
    let next = || -> Bytes {
        let mut stock = stock.borrow_mut();
        if stock.is_empty() {
            stock.extend(batch(&credential, SIZE));
            let first = stock.pop().unwrap();
            assert!(receiver.borrow_mut().verify(None, &first));
        }
        stock.pop().unwrap()
    };
    group.bench_function("verify, batch met before, 3 delegations", |b| {
        b.iter_batched(
            next,
            |frame| assert!(receiver.borrow_mut().verify(None, &frame)),
            BatchSize::SmallInput,
        );
    });
    group.finish();
}

fn refuse(c: &mut Criterion) {
    let mut receiver = Receiver::new();
    let credential = credential(3);
    assert!(receiver.verify(None, &signed(&credential)));
    let mut seed = 1u64;
    let mut group = c.benchmark_group("refuse");
    group.bench_function("1 KiB of garbage", |b| {
        b.iter_batched(
            || garbage(b"", &mut seed),
            |frame| assert!(!receiver.verify(None, &frame)),
            BatchSize::SmallInput,
        );
    });
    group.bench_function("1 KiB of garbage after the magic", |b| {
        b.iter_batched(
            || garbage(b"TMSH", &mut seed),
            |frame| assert!(!receiver.verify(None, &frame)),
            BatchSize::SmallInput,
        );
    });
    group.bench_function("bad signature, warm, 3 delegations", |b| {
        b.iter_batched(
            || spoiled(&credential),
            |frame| assert!(!receiver.verify(None, &frame)),
            BatchSize::SmallInput,
        );
    });
    group.finish();
}

fn settings() -> Criterion {
    Criterion::default()
        .warm_up_time(Duration::from_secs(1))
        .measurement_time(Duration::from_secs(4))
}

criterion_group! {
    name = benches;
    config = settings();
    targets = bare, sign, verify, batches, refuse
}
criterion_main!(benches);
