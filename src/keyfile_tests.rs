//! Claims about key files, on a real file system.

use std::fs;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::process::Command;
use std::thread;

use tempfile::TempDir;

use super::*;
use crate::proto::keytext::InvalidKeyText;

fn key(seed: u8) -> SigningKey {
    SigningKey::from_seed(&[seed; 32]).unwrap()
}

/// A fresh directory and the path of a key in it, which is not there yet.
fn place() -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("agent.key");
    (directory, path)
}

fn written(path: &Path, bytes: &[u8], mode: u32) {
    fs::write(path, bytes).unwrap();
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

fn names(directory: &TempDir) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap();
    entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect()
}

#[test]
fn a_created_key_is_private_and_reads_back() {
    let (directory, path) = place();
    create(&path, &key(7)).unwrap();
    assert_eq!(mode(&path), 0o600);
    assert_eq!(load(&path).unwrap().public(), key(7).public());
    assert_eq!(
        names(&directory),
        ["agent.key"],
        "nothing else is left behind"
    );

    let unwritten = directory.path().join("unwritten");
    os::create_private(&unwritten).unwrap();
    assert_eq!(mode(&unwritten) & 0o077, 0, "private from birth");
    fs::remove_file(&unwritten).unwrap();

    replace(&path, &key(8)).unwrap();
    assert_eq!(mode(&path), 0o600);
    assert_eq!(load(&path).unwrap().public(), key(8).public());
    assert_eq!(names(&directory), ["agent.key"]);
}

/// CL-1. A umask belongs to the whole process, so the claim above is made again in one of its own.
#[test]
fn a_created_key_is_private_whatever_the_umask() {
    let test = "keyfile::tests::a_created_key_is_private_and_reads_back";
    for umask in ["000", "022", "077"] {
        let output = Command::new("sh")
            .args(["-c", r#"umask "$1" && exec "$2" --exact "$3""#, "sh", umask])
            .arg(std::env::current_exe().unwrap())
            .arg(test)
            .output()
            .unwrap();
        let printed = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "umask {umask}: {printed}");
        assert!(printed.contains("1 passed"), "umask {umask}: {printed}");
    }
}

/// CL-1: every bit for anybody else is one too many.
#[test]
fn a_key_open_to_others_is_refused_with_the_remedy() {
    let (_directory, path) = place();
    let pem = key(7).to_pkcs8_pem();
    for bit in 0..6 {
        written(&path, pem.as_bytes(), 0o600 | 1 << bit);
        let error = load(&path).unwrap_err();
        assert!(
            matches!(error, KeyFileError::Permissions { mode, .. } if mode == 0o600 | 1 << bit)
        );
        assert!(
            error
                .to_string()
                .contains(&format!("chmod 600 {}", path.display())),
            "{error}"
        );
    }
    for mode in [0o600, 0o400, 0o700] {
        written(&path, pem.as_bytes(), 0o600);
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        assert!(load(&path).is_ok(), "{mode:o}");
    }
}

/// CL-5.
#[test]
fn creating_never_overwrites() {
    let (directory, path) = place();
    let before = key(7).to_pkcs8_pem();
    written(&path, before.as_bytes(), 0o600);
    let refused = create(&path, &key(8)).unwrap_err();
    assert!(matches!(refused, KeyFileError::Exists { .. }), "{refused}");
    assert_eq!(fs::read(&path).unwrap(), before.as_bytes());

    let link = directory.path().join("dangling");
    symlink(directory.path().join("elsewhere"), &link).unwrap();
    assert!(matches!(
        create(&link, &key(8)),
        Err(KeyFileError::Exists { .. })
    ));
    assert!(matches!(
        create(directory.path(), &key(8)),
        Err(KeyFileError::Exists { .. })
    ));
    let mut left = names(&directory);
    left.sort();
    assert_eq!(
        left,
        ["agent.key", "dangling"],
        "no temporary file and no `elsewhere`"
    );
}

#[test]
fn of_many_creators_exactly_one_wins() {
    let (_directory, path) = place();
    let winners: Vec<u8> = thread::scope(|scope| {
        let attempts: Vec<_> = (1..=8)
            .map(|seed| {
                let path = &path;
                scope.spawn(move || create(path, &key(seed)).is_ok().then_some(seed))
            })
            .collect();
        attempts
            .into_iter()
            .filter_map(|attempt| attempt.join().unwrap())
            .collect()
    });
    assert_eq!(winners.len(), 1);
    assert_eq!(load(&path).unwrap().public(), key(winners[0]).public());
}

/// CL-3: whoever looks while keys are replaced sees one of them, whole.
#[test]
fn a_reader_sees_the_old_or_the_new_key_and_nothing_between() {
    let (directory, path) = place();
    create(&path, &key(1)).unwrap();
    // An open file stays the old one: replacing writes a new file and exchanges the names.
    let mut old = File::open(&path).unwrap();
    thread::scope(|scope| {
        let writer = scope.spawn(|| {
            for round in 0..100 {
                replace(&path, &key(1 + round % 2)).unwrap();
            }
        });
        let known = [1, 2].map(|seed| key(seed).public());
        while !writer.is_finished() {
            assert!(known.contains(&load(&path).unwrap().public()));
        }
    });
    let mut text = String::new();
    old.read_to_string(&mut text).unwrap();
    assert_eq!(text, *key(1).to_pkcs8_pem());
    assert_eq!(names(&directory), ["agent.key"]);
}

#[test]
fn replacing_a_symlink_leaves_its_target_alone() {
    let (directory, path) = place();
    let target = directory.path().join("target");
    written(&target, b"not yours", 0o644);
    symlink(&target, &path).unwrap();
    replace(&path, &key(7)).unwrap();
    assert_eq!(fs::read(&target).unwrap(), b"not yours");
    assert_eq!(load(&path).unwrap().public(), key(7).public());
}

/// CL-4.
#[test]
fn what_is_not_a_regular_file_is_refused() {
    let (directory, path) = place();
    let real = directory.path().join("real.key");
    create(&real, &key(7)).unwrap();
    symlink(&real, &path).unwrap();
    assert!(matches!(load(&path), Err(KeyFileError::Symlink { .. })));
    assert!(matches!(
        load(directory.path()),
        Err(KeyFileError::NotAFile { .. })
    ));
    let socket = directory.path().join("socket");
    let _listener = UnixListener::bind(&socket).unwrap();
    assert!(matches!(load(&socket), Err(KeyFileError::NotAFile { .. })));
    assert!(matches!(
        load(Path::new("/dev/zero")),
        Err(KeyFileError::NotAFile { .. })
    ));
    let missing = load(&directory.path().join("missing")).unwrap_err();
    assert!(matches!(&missing, KeyFileError::Io { source, .. }
        if source.kind() == io::ErrorKind::NotFound));
}

/// CL-4: a pipe that nobody writes to must not make loading wait.
#[test]
fn a_pipe_is_refused_without_waiting() {
    let (_directory, path) = place();
    assert!(
        Command::new("mkfifo")
            .args(["-m", "600"])
            .arg(&path)
            .status()
            .unwrap()
            .success()
    );
    assert!(matches!(load(&path), Err(KeyFileError::NotAFile { .. })));
}

/// CL-4, CL-6.
#[test]
fn files_that_hold_no_key_are_refused() {
    let (_directory, path) = place();
    let pem = key(7).to_pkcs8_pem();
    written(&path, b"", 0o600);
    assert!(matches!(load(&path), Err(KeyFileError::Empty { .. })));

    let foreign = {
        let mut der = data_encoding::HEXLOWER
            .decode(b"3051020101300506032b657004220420")
            .unwrap();
        der.extend([7; 32]);
        der.extend([0x81, 0x21, 0]);
        der.extend(key(8).public().bytes().0);
        let base64 = data_encoding::BASE64.encode(&der);
        let (first, second) = base64.split_at(64);
        format!("-----BEGIN PRIVATE KEY-----\n{first}\n{second}\n-----END PRIVATE KEY-----\n")
    };
    let public = key(7).public().to_spki_pem();
    let cases = [
        (&pem.as_bytes()[..60], InvalidKeyText::Malformed),
        (b"\xff\xfe binary", InvalidKeyText::Malformed),
        (public.as_bytes(), InvalidKeyText::OtherKind),
        (foreign.as_bytes(), InvalidKeyText::Mismatch),
    ];
    for (bytes, reason) in cases {
        written(&path, bytes, 0o600);
        let error = load(&path).unwrap_err();
        assert!(
            matches!(error, KeyFileError::Key { source, .. } if source == reason),
            "{error:?}"
        );
    }
}

/// CL-4: a sparse file of 1 GiB, and the exact bound.
#[test]
fn a_large_file_is_refused_unread() {
    let (_directory, path) = place();
    written(&path, b"", 0o600);
    File::options()
        .write(true)
        .open(&path)
        .unwrap()
        .set_len(1 << 30)
        .unwrap();
    assert!(matches!(load(&path), Err(KeyFileError::TooLarge { .. })));

    let pem = key(7).to_pkcs8_pem();
    let padded = |length: usize| " ".repeat(length - pem.len() - 1) + "\n" + &pem;
    written(&path, padded(KEY_FILE_MAX + 1).as_bytes(), 0o600);
    assert!(matches!(load(&path), Err(KeyFileError::TooLarge { .. })));
    written(&path, padded(KEY_FILE_MAX).as_bytes(), 0o600);
    assert!(!matches!(load(&path), Err(KeyFileError::TooLarge { .. })));
}

/// CL-4: neither the message, nor its cause, nor the debug form shows any of the file.
#[test]
fn errors_name_the_file_and_show_nothing_from_it() {
    let (_directory, path) = place();
    let pem = key(7).to_pkcs8_pem();
    let secret = pem.lines().nth(1).unwrap();
    let texts = [
        (pem.replace("PRIVATE", "OTHER"), 0o600),
        (pem[..pem.len() - 30].to_owned(), 0o600),
        (secret.to_owned(), 0o600),
        (pem.to_string(), 0o640),
    ];
    for (text, mode) in texts {
        written(&path, text.as_bytes(), mode);
        let error = load(&path).unwrap_err();
        let cause = std::error::Error::source(&error).map(|cause| format!("{cause} {cause:?}"));
        let printed = format!("{error} {error:?} {cause:?}");
        assert!(printed.contains("agent.key"));
        assert!(
            !printed.contains(&secret[22..]) && !printed.contains("BwcHBwcH"),
            "{printed}"
        );
        assert!(
            !printed.contains("0707") && !printed.contains("7, 7"),
            "{printed}"
        );
    }
}

#[test]
fn a_failed_write_leaves_the_old_key() {
    let (directory, path) = place();
    create(&path, &key(7)).unwrap();
    let gone = directory.path().join("no such directory").join("agent.key");
    assert!(matches!(
        create(&gone, &key(8)),
        Err(KeyFileError::Io {
            action: "create",
            ..
        })
    ));
    assert!(matches!(
        replace(&gone, &key(8)),
        Err(KeyFileError::Io {
            action: "create",
            ..
        })
    ));

    let occupied = directory.path().join("directory");
    fs::create_dir(&occupied).unwrap();
    let refused = replace(&occupied, &key(8)).unwrap_err();
    assert!(
        matches!(
            refused,
            KeyFileError::Io {
                action: "replace",
                ..
            }
        ),
        "{refused}"
    );
    let mut left = names(&directory);
    left.sort();
    assert_eq!(
        left,
        ["agent.key", "directory"],
        "the temporary file is gone"
    );
    assert_eq!(load(&path).unwrap().public(), key(7).public());
}
