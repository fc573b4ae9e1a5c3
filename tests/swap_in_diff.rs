//! Swapping the client in changes imports and connect lines, and few of them.

/// Most lines that may change, both sides together.
const LINES_MAX: usize = 6;

/// The lines of `a` and of `b` that are not in their longest common subsequence.
fn differences<'a>(a: &[&'a str], b: &[&'a str]) -> (Vec<&'a str>, Vec<&'a str>) {
    let mut common = vec![vec![0usize; b.len() + 1]; a.len() + 1];
    for i in (0..a.len()).rev() {
        for j in (0..b.len()).rev() {
            common[i][j] = match a[i] == b[j] {
                true => common[i + 1][j + 1] + 1,
                false => common[i + 1][j].max(common[i][j + 1]),
            };
        }
    }
    let (mut i, mut j) = (0, 0);
    let (mut only_a, mut only_b) = (Vec::new(), Vec::new());
    while i < a.len() || j < b.len() {
        if i < a.len() && j < b.len() && a[i] == b[j] {
            (i, j) = (i + 1, j + 1);
        } else if j == b.len() || (i < a.len() && common[i + 1][j] >= common[i][j + 1]) {
            only_a.push(a[i]);
            i += 1;
        } else {
            only_b.push(b[j]);
            j += 1;
        }
    }
    (only_a, only_b)
}

#[test]
fn swapping_the_client_in_changes_imports_and_connect_lines_alone() {
    let plain: Vec<_> = include_str!("../examples/swap_in_async_nats.rs")
        .lines()
        .collect();
    let verified: Vec<_> = include_str!("../examples/swap_in.rs").lines().collect();
    let (before, after) = differences(&plain, &verified);
    assert!(!before.is_empty() && !after.is_empty());
    let changed = before.len() + after.len();
    assert!(changed <= LINES_MAX, "{before:#?} {after:#?}");
    for line in before.iter().chain(&after) {
        let import = line.starts_with("use ");
        let connect = line.contains("connect(") || line.contains("Authority::");
        assert!(import || connect, "{line}");
    }
}

#[test]
fn differences_are_the_lines_not_in_common() {
    let found = differences(&["a", "x", "b", "c"], &["a", "b", "y", "z", "c"]);
    assert_eq!(found, (vec!["x"], vec!["y", "z"]));
    assert_eq!(differences(&["a"], &["a"]), (vec![], vec![]));
}
