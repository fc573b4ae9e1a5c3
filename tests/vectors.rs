//! The published test vectors: one generator writes them, and the real verifier is held to them.
//!
//! The cases stand in `vector_cases`, a file per theme. What each expects is written there by
//! hand, from what the protocol means; nothing is recorded from a run. The files under
//! `tests/vectors` are compared byte for byte with what the generator writes, and the verifier
//! reads those files. To write them again:
//!
//! ```text
//! TRUSTMESH_BLESS=1 cargo test --test vectors
//! ```

#[path = "forge/mod.rs"]
mod forge;

mod vector_cases;

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use trustmesh::proto::rejection::Class;

use vector_cases::Book;
use vector_cases::codes;
use vector_cases::conformance;
use vector_cases::example;
use vector_cases::folder;
use vector_cases::run;

/// The generator writes what is committed: no file is missing, different or superfluous.
#[test]
fn the_committed_vectors_are_what_the_generator_writes() {
    let faults = folder::differences("tests/vectors", &Book::get().files());
    assert!(
        faults.is_empty(),
        "{}\n{} fault(s); to write the vectors again: {}",
        faults.join("\n"),
        faults.len(),
        folder::COMMAND
    );
}

/// Every vector, read from its file, is decided as it says.
#[test]
fn every_vector_holds() {
    let faults = run::all(&Book::get().files());
    assert!(
        faults.is_empty(),
        "{}\n{} fault(s)",
        faults.join("\n"),
        faults.len()
    );
}

/// Every class and reason is expected by some vector, or excused with the reason why bytes, state
/// and time cannot bring it about.
#[test]
fn every_code_has_a_vector_or_an_excuse() {
    let mut seen: BTreeMap<u16, usize> = BTreeMap::new();
    for code in Book::get().codes() {
        *seen.entry(code).or_default() += 1;
    }
    let excused: BTreeSet<u16> = codes::EXCUSED.iter().map(|(code, _)| *code).collect();
    for code in codes::ALL {
        let hit = seen.contains_key(code);
        assert_ne!(hit, excused.contains(code), "code {code}");
    }
    for class in Class::ALL {
        let known = codes::ALL.iter().any(|code| code / 100 == class as u16);
        assert!(known, "{} has no code here", class.name());
    }
}

/// There are enough of them, and each class that has a refused case has an accepted neighbour in
/// the same group.
#[test]
fn every_group_has_accepted_cases() {
    let book = Book::get();
    assert!(book.cases.len() >= 450, "{} cases", book.cases.len());
    let groups: BTreeSet<_> = book.cases.iter().map(|case| case.group).collect();
    for group in groups {
        let accepted = |case: &&vector_cases::Case| case.group == group && case.code.is_none();
        assert!(
            book.cases.iter().any(|case| accepted(&case)),
            "{group} accepts nothing"
        );
    }
}

/// Each obligation of the text has one id, and each id is shown by a vector or a test that exists.
#[test]
fn every_requirement_is_shown() {
    let text = conformance::protocol();
    let requirements = conformance::requirements(&text);
    let mut faults = conformance::faults_of_text(&text);
    faults.extend(conformance::faults_of_vectors(Book::get(), &requirements));
    faults.extend(conformance::faults_of_tests(&requirements));
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// The table of what shows what is up to date.
#[test]
fn the_conformance_table_is_current() {
    let requirements = conformance::requirements(&conformance::protocol());
    let table = conformance::table(Book::get(), &requirements);
    let path = "docs/conformance.md";
    let fault = folder::difference(&folder::below(path), path, &table);
    assert!(
        fault.is_none(),
        "{fault:?}; to write it again: {}",
        folder::COMMAND
    );
}

/// The worked example in the text is what the seeds in it come to.
#[test]
fn the_worked_example_is_current() {
    let path = "docs/protocol.md";
    let text = example::filled(&conformance::protocol());
    let fault = folder::difference(&folder::below(path), path, &text);
    assert!(
        fault.is_none(),
        "{fault:?}; to write it again: {}",
        folder::COMMAND
    );
}
