//! The promises of `write_atomically`. Tests may run as root, which no permission stops, so what
//! "cannot be written" here is impossible for everybody.

use std::{
    fs::{self, File},
    path::Path,
    thread,
};

use anyhow::{Result, bail};
use files::write_atomically;

fn write_text(path: &Path, text: &str) -> Result<()> {
    write_atomically(path, |file| Ok(file.write_all(text.as_bytes())?))
}

fn names_in(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<_> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn makes_missing_folders_and_leaves_only_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("out/today/metrics.csv");
    write_text(&path, "step,loss\n").unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), "step,loss\n");
    assert_eq!(names_in(path.parent().unwrap()), ["metrics.csv"]);
}

#[test]
fn replaces_longer_content_as_a_whole() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.txt");
    write_text(&path, "a long first version").unwrap();
    write_text(&path, "short").unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), "short");
}

#[test]
fn a_failed_write_keeps_the_old_content_and_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.txt");
    write_text(&path, "old").unwrap();
    let error = write_atomically(&path, |file| {
        file.write_all(&[b'x'; 100_000])?;
        bail!("the loss is not a number")
    })
    .unwrap_err();
    assert_eq!(
        format!("{error:#}"),
        format!("cannot write {}: the loss is not a number", path.display())
    );
    assert_eq!(fs::read_to_string(&path).unwrap(), "old");
    assert_eq!(names_in(folder.path()), ["a.txt"]);
}

#[test]
fn a_panic_while_writing_keeps_the_old_content_and_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.txt");
    write_text(&path, "old").unwrap();
    thread::scope(|scope| {
        let writer = scope.spawn(|| write_atomically(&path, |_| panic!("on purpose")));
        assert!(writer.join().is_err());
    });
    assert_eq!(fs::read_to_string(&path).unwrap(), "old");
    assert_eq!(names_in(folder.path()), ["a.txt"]);
}

#[test]
fn a_path_below_a_file_is_named_in_one_sentence() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    write_text(&file, "not a folder").unwrap();
    let below = file.join("metrics.csv");
    let message = format!("{:#}", write_text(&below, "x").unwrap_err());
    assert!(message.starts_with(&format!("cannot write {}: ", below.display())), "{message}");
    assert!(!message.contains('\n') && !message.contains(".part"), "{message}");
    assert_eq!(fs::read_to_string(&file).unwrap(), "not a folder");
}

#[test]
fn a_folder_in_the_place_of_the_file_stays() {
    let folder = tempfile::tempdir().unwrap();
    let taken = folder.path().join("taken");
    fs::create_dir(&taken).unwrap();
    let mut ran = false;
    let error = write_atomically(&taken, |_| {
        ran = true;
        Ok(())
    })
    .unwrap_err();
    assert_eq!(
        format!("{error:#}"),
        format!("cannot write {}: this is not a plain file", taken.display())
    );
    assert!(!ran, "nothing is computed for a place that cannot take it");
    assert_eq!(names_in(folder.path()), ["taken"]);
}

#[test]
fn a_path_without_a_file_name_is_refused() {
    let error = write_text(Path::new(".."), "x").unwrap_err();
    assert_eq!(format!("{error:#}"), "cannot write ..: this names no file");
}

/// A socket stands here for devices and pipes: renaming onto `/dev/null` would break the machine.
#[cfg(unix)]
#[test]
fn what_is_no_plain_file_is_not_replaced_by_one() {
    use std::os::unix::{fs::FileTypeExt, net::UnixListener};
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    let _socket = UnixListener::bind(&path).unwrap();
    write_text(&path, "x").unwrap_err();
    assert!(fs::metadata(&path).unwrap().file_type().is_socket());
}

#[cfg(target_os = "linux")]
#[test]
fn a_folder_that_takes_no_files_is_an_error() {
    let message = format!("{:#}", write_text(Path::new("/proc/metrics.csv"), "x").unwrap_err());
    assert!(message.starts_with("cannot write /proc/metrics.csv: "), "{message}");
}

/// Others may read what a plain `File::create` would let them read.
#[cfg(unix)]
#[test]
fn permissions_are_those_of_any_new_file() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let (ours, plain) = (folder.path().join("ours"), folder.path().join("plain"));
    write_text(&ours, "x").unwrap();
    fs::write(&plain, "x").unwrap();
    let mode = |path| fs::metadata(path).unwrap().permissions().mode();
    assert_eq!(mode(&ours), mode(&plain));
}

#[test]
fn what_a_killed_process_left_goes_and_what_a_living_one_writes_stays() {
    let folder = tempfile::tempdir().unwrap();
    let abandoned = folder.path().join(".a.txt.killed.part");
    let in_use = folder.path().join(".a.txt.living.part");
    fs::write(&abandoned, "half of it").unwrap();
    let living = File::create(&in_use).unwrap();
    living.lock().unwrap();
    fs::write(folder.path().join(".b.txt.killed.part"), "of another target").unwrap();
    write_text(&folder.path().join("a.txt"), "whole").unwrap();
    assert_eq!(names_in(folder.path()), [".a.txt.living.part", ".b.txt.killed.part", "a.txt"]);
}

/// Readers and several writers at once: every look finds one writer's content, entire.
#[test]
fn nobody_ever_sees_a_part() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.txt");
    let text = |writer: u8| String::from_utf8(vec![b'a' + writer; 100_000]).unwrap();
    write_text(&path, &text(0)).unwrap();
    thread::scope(|scope| {
        for writer in 0..3 {
            let (path, text) = (&path, text(writer));
            scope.spawn(move || (0..20).for_each(|_| write_text(path, &text).unwrap()));
        }
        for _ in 0..200 {
            let seen = fs::read_to_string(&path).unwrap();
            assert!((0..3).any(|writer| seen == text(writer)), "{} bytes", seen.len());
        }
    });
    assert_eq!(names_in(folder.path()), ["a.txt"]);
}
