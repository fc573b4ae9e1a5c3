//! Claims about the replay floor, on a real file system.

use std::fs;
use std::sync::Arc;
use std::thread;

use tempfile::TempDir;

use super::*;
use crate::proto::rejection::Replay;
use crate::proto::replay::MessageId;
use crate::proto::replay::ReplayGuard;
use crate::proto::replay::Sighting;

const START: u64 = 1_000_000;
const SKEW: u64 = 5_000;

fn at(millis: u64) -> Timestamp {
    Timestamp::from_millis(millis)
}

/// A directory and the path of a floor that is not there yet.
fn nowhere() -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("state").join("replay-floor");
    (directory, path)
}

/// A directory and the path of the floor of an identity that was just saved.
fn newborn() -> (TempDir, PathBuf) {
    let (directory, path) = nowhere();
    ReplayFloor::create(&path, at(START)).unwrap();
    (directory, path)
}

fn open(path: &Path, start: u64) -> Result<(ReplayFloor, Timestamp), FloorError> {
    ReplayFloor::open(path, at(start), ClockSkew::from_millis(SKEW).unwrap())
}

#[test]
fn a_first_run_refuses_nothing_issued_after_the_identity_was_saved() {
    let (_directory, path) = newborn();
    let (_floor, initial) = open(&path, START + 1).unwrap();
    assert_eq!(initial, at(START));
}

#[test]
fn without_a_file_everything_that_can_have_been_accepted_is_refused() {
    let (_directory, path) = nowhere();
    let (floor, initial) = open(&path, START).unwrap();
    assert_eq!(initial, at(START + SKEW));
    drop(floor);
    // Deleting the state of an identity gains nothing.
    let (floor, _) = open(&path, START + 1).unwrap();
    floor.admit(at(START + SKEW)).unwrap();
    drop(floor);
    fs::remove_dir_all(path.parent().unwrap()).unwrap();
    let (_floor, initial) = open(&path, START + 2).unwrap();
    assert_eq!(initial, at(START + 2 + SKEW));
}

#[test]
fn after_a_crash_everything_accepted_is_below_the_floor() {
    let (_directory, path) = newborn();
    for (issued, ceiling) in [(1, 2_001), (2_001, 2_001), (2_002, 4_002), (3_000, 4_002)] {
        let (floor, _) = open(&path, START).unwrap();
        floor.admit(at(START + issued)).unwrap();
        drop(floor);
        let (_floor, initial) = open(&path, START).unwrap();
        assert_eq!(initial, at(START + ceiling), "issued {issued}");
    }
}

/// The floor as the guard uses it: what was accepted before a crash is a replay after it.
#[test]
fn a_message_accepted_before_a_crash_is_refused_after_it() {
    let (_directory, path) = newborn();
    let sighting = |issued| Sighting {
        sender: crate::proto::identity::KeyBytes([1; 32]),
        mid: MessageId([1; 16]),
        issued: at(issued),
        ttl_ms: 10_000,
    };
    let (floor, initial) = open(&path, START).unwrap();
    let mut guard = ReplayGuard::new(ClockSkew::default(), Some(initial));
    floor.admit(at(START + 10)).unwrap();
    guard.admit(&sighting(START + 10), at(START + 10)).unwrap();
    drop((floor, guard));

    let (_floor, initial) = open(&path, START + 20).unwrap();
    let mut guard = ReplayGuard::new(ClockSkew::default(), Some(initial));
    let again = guard.admit(&sighting(START + 10), at(START + 20));
    assert_eq!(
        again.unwrap_err(),
        Rejection::Replay {
            reason: Replay::BeforeRestart
        }
    );
}

#[test]
fn after_a_clean_shutdown_only_what_was_accepted_is_refused() {
    let (_directory, path) = newborn();
    let (floor, _) = open(&path, START).unwrap();
    for issued in [500, 1_500, 700] {
        floor.admit(at(START + issued)).unwrap();
    }
    floor.close().unwrap();
    drop(floor);
    let (floor, initial) = open(&path, START).unwrap();
    assert_eq!(initial, at(START + 1_500));
    // A run in which nothing arrives changes nothing.
    floor.close().unwrap();
    drop(floor);
    assert_eq!(open(&path, START).unwrap().1, at(START + 1_500));
}

#[test]
fn what_is_admitted_after_closing_counts() {
    let (_directory, path) = newborn();
    let (floor, _) = open(&path, START).unwrap();
    floor.admit(at(START + 10)).unwrap();
    floor.close().unwrap();
    floor.admit(at(START + 11)).unwrap();
    drop(floor);
    assert_eq!(open(&path, START).unwrap().1, at(START + 2_011));
}

#[test]
fn nothing_is_accepted_that_cannot_be_stored() {
    let (_directory, path) = newborn();
    let (floor, _) = open(&path, START).unwrap();
    floor.admit(at(START + 1)).unwrap();
    let state = path.parent().unwrap();
    let aside = state.with_extension("aside");
    fs::rename(state, &aside).unwrap();
    floor.admit(at(START + 2_001)).unwrap();
    assert_eq!(
        floor.admit(at(START + 2_002)).unwrap_err(),
        Rejection::Overloaded {
            reason: Overloaded::State
        }
    );
    assert!(floor.close().is_err());
    // What failed to close goes on as before, and recovers.
    floor.admit(at(START + 2_001)).unwrap();
    fs::rename(&aside, state).unwrap();
    floor.admit(at(START + 2_002)).unwrap();
    drop(floor);
    assert_eq!(open(&path, START).unwrap().1, at(START + 4_002));
}

#[test]
fn a_damaged_file_is_refused_at_start() {
    let (_directory, path) = newborn();
    let whole = fs::read_to_string(&path).unwrap();
    let cuts = (0..whole.len()).map(|at| whole[..at].to_owned());
    let garbage = [
        whole.replace("1000000", "0000000"),
        whole.replace("1000000", "01000000"),
        whole.replace("1000000", "+1000000"),
        whole.to_uppercase(),
        format!("{whole}\n"),
        "\0".repeat(100),
        "9".repeat(1_000),
    ];
    for text in cuts.chain(garbage) {
        fs::write(&path, &text).unwrap();
        let error = open(&path, START).unwrap_err();
        assert!(
            matches!(error, FloorError::Damaged { .. }),
            "{text:?}: {error}"
        );
    }
    fs::write(&path, [0xFF; 10]).unwrap();
    assert!(open(&path, START).is_err());
}

#[test]
fn a_clock_set_back_is_told_rather_than_everything_refused() {
    let (_directory, path) = newborn();
    let limit = START - SKEW - STEP_MS - AHEAD_MS;
    assert!(open(&path, limit).is_ok());
    let error = open(&path, limit - 1).unwrap_err();
    assert!(matches!(error, FloorError::Ahead { .. }), "{error}");
}

#[test]
fn receivers_of_one_identity_do_not_lower_each_others_ceilings() {
    let (_directory, path) = newborn();
    let (one, _) = open(&path, START).unwrap();
    one.admit(at(START + 10_000)).unwrap();
    // One that runs remembers for itself; a second is not held up by it.
    let (two, initial) = open(&path, START).unwrap();
    assert_eq!(initial, at(0));
    two.admit(at(START + 1)).unwrap();
    two.close().unwrap();
    drop(one);
    // Whoever comes next begins above all that have ended.
    let (three, initial) = open(&path, START).unwrap();
    assert_eq!(initial, at(START + 12_000));
    three.close().unwrap();
    drop((two, three));
    assert_eq!(open(&path, START).unwrap().1, at(START + 12_000));
}

#[test]
fn there_is_an_end_to_the_places() {
    let (_directory, path) = newborn();
    let held: Vec<_> = (0..PLACES_MAX)
        .map(|_| open(&path, START).unwrap())
        .collect();
    let error = open(&path, START).unwrap_err();
    assert!(matches!(error, FloorError::TooMany { .. }), "{error}");
    drop(held);
    assert!(open(&path, START).is_ok());
}

/// Closing while others admit loses none of what they let through.
#[test]
fn a_close_in_the_middle_covers_what_is_admitted_at_once() {
    let (_directory, path) = newborn();
    let (floor, _) = open(&path, START).unwrap();
    let floor = Arc::new(floor);
    let tasks: Vec<_> = (1..=4)
        .map(|n| {
            let floor = floor.clone();
            thread::spawn(move || {
                for step in 0..50 {
                    let issued = at(START + step * 100 + n);
                    floor.admit(issued).unwrap();
                    // A file read later says at least as much, unless it was closed lower.
                    let stored = read(&floor.path).unwrap().unwrap();
                    assert!(stored >= issued, "{stored} is below {issued}");
                }
            })
        })
        .collect();
    for _ in 0..20 {
        floor.close().unwrap();
    }
    for task in tasks {
        task.join().unwrap();
    }
    floor.close().unwrap();
    drop(floor);
    assert_eq!(open(&path, START).unwrap().1, at(START + 4_904));
}
