//! The README and the front page of the documentation show one program.

/// What stands between the first fence of Rust and its end.
fn first_program(text: &str, opening: &str) -> String {
    let (_, rest) = text.split_once(opening).expect("a program");
    let (program, _) = rest.split_once("\n```").expect("its end");
    program.to_owned()
}

#[test]
fn the_front_page_of_the_documentation_is_the_program_of_the_readme() {
    let readme = include_str!("../README.md");
    let front: String = include_str!("../src/lib.rs")
        .lines()
        .map_while(|line| line.strip_prefix("//!"))
        .map(|line| format!("{}\n", line.strip_prefix(' ').unwrap_or(line)))
        .collect();
    // The picture is the first block of the front page and names its language.
    let shown = first_program(&front, "```\nuse ");
    assert_eq!(format!("use {shown}"), first_program(readme, "```rust\n"));
}
