//! Tests of the chain.

use std::os::unix::fs::PermissionsExt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::channel;

use super::*;

const LIST: &str = "{\"name\": \"n\", \"plugins\": [{\"type\": \"ptp\"}]}\n";
const SINGLE: &str = "{\"cniVersion\": \"0.4.0\", \"name\": \"n\", \"type\": \"bridge\"}\n";

fn chain(files: &[(&str, &str)]) -> (tempfile::TempDir, Chain) {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    let chain = Chain { configurations: folder.path().to_owned(), socket: "/run/netpol/agent.sock".into() };
    (folder, chain)
}

fn names(folder: &tempfile::TempDir) -> Vec<String> {
    let entries = std::fs::read_dir(folder.path()).unwrap();
    let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn the_first_configuration_is_chained_once_and_unchained_without_a_trace() {
    let files = [("10-first.conflist", LIST), ("20-second.conflist", LIST), ("00-notes.txt", "no configuration")];
    let (folder, chain) = chain(&files);
    let first = folder.path().join("10-first.conflist");
    std::fs::set_permissions(&first, std::fs::Permissions::from_mode(0o600)).unwrap();
    assert_eq!(chain.install().unwrap(), Outcome::Written(first.clone()));
    assert_eq!(chain.install().unwrap(), Outcome::Unchanged);
    assert!(conflist::has_plugin(&std::fs::read_to_string(&first).unwrap()));
    assert_eq!(read(&first).unwrap().mode() & 0o777, 0o600);
    assert_eq!(std::fs::read_to_string(folder.path().join("20-second.conflist")).unwrap(), LIST);
    assert_eq!(chain.uninstall().unwrap(), [first]);
    for (name, text) in files {
        assert_eq!(std::fs::read_to_string(folder.path().join(name)).unwrap(), text);
    }
    assert_eq!(names(&folder).len(), 3);
    assert!(chain.uninstall().unwrap().is_empty());
}

#[test]
fn a_single_configuration_stays_and_a_list_comes_before_it() {
    let (folder, chain) = chain(&[("10-bridge.conf", SINGLE)]);
    let read = |name: &str| std::fs::read_to_string(folder.path().join(name)).unwrap();
    let list = folder.path().join("10-bridge-netpol.conflist");
    assert_eq!(chain.install().unwrap(), Outcome::Written(list.clone()));
    assert_eq!(chain.files().unwrap().first(), Some(&list));
    assert_eq!(read("10-bridge.conf"), SINGLE);
    assert_eq!(chain.install().unwrap(), Outcome::Unchanged);
    // Its owner writes it again, in another way.
    std::fs::write(folder.path().join("10-bridge.conf"), SINGLE.replace("bridge", "ptp")).unwrap();
    assert_eq!(chain.install().unwrap(), Outcome::Written(list.clone()));
    assert!(read("10-bridge-netpol.conflist").contains("ptp"));
    // It becomes a list, or another file comes before it: ours has no more to say.
    std::fs::write(folder.path().join("05-x.conflist"), LIST).unwrap();
    assert_eq!(chain.install().unwrap(), Outcome::Written(folder.path().join("05-x.conflist")));
    assert_eq!(names(&folder), ["05-x.conflist", "10-bridge.conf"]);
    std::fs::remove_file(folder.path().join("05-x.conflist")).unwrap();
    chain.install().unwrap();
    assert_eq!(names(&folder), ["10-bridge-netpol.conflist", "10-bridge.conf"]);
    assert_eq!(chain.uninstall().unwrap(), [list]);
    assert_eq!(names(&folder), ["10-bridge.conf"]);
    // Without its owner's file, ours would give pods a network that is not there.
    chain.install().unwrap();
    std::fs::remove_file(folder.path().join("10-bridge.conf")).unwrap();
    assert!(matches!(chain.install(), Err(InstallError::NoConfiguration(_))));
    assert!(names(&folder).is_empty());
}

#[test]
fn a_link_stays_a_link() {
    let (folder, chain) = chain(&[("real", LIST)]);
    let link = folder.path().join("10-x.conflist");
    std::os::unix::fs::symlink(folder.path().join("real"), &link).unwrap();
    chain.install().unwrap();
    assert!(std::fs::symlink_metadata(&link).unwrap().is_symlink());
    assert!(conflist::has_plugin(&std::fs::read_to_string(folder.path().join("real")).unwrap()));
}

/// A list of this name, as its owner writes it.
fn list(name: &str) -> String {
    LIST.replace("\"n\"", &format!("\"{name}\""))
}

#[test]
fn what_its_owner_writes_meanwhile_stays() {
    let (folder, chain) = chain(&[]);
    let path = folder.path().join("10-x.conflist");
    let by_renaming = |text: &str| {
        std::fs::write(folder.path().join("new"), text).unwrap();
        std::fs::rename(folder.path().join("new"), &path).unwrap();
    };
    let in_place = |text: &str| std::fs::write(&path, text).unwrap();
    for write in [&by_renaming as &dyn Fn(&str), &in_place] {
        write(&list("first"));
        let mut writes = vec![list("third"), list("second")];
        let with_plugin = |text: &str| Ok(conflist::with_plugin(text, &chain.entry()).unwrap());
        let is_written = edit(&path, read(&path).unwrap(), with_plugin, &mut || {
            if let Some(text) = writes.pop() {
                write(&text);
            }
        });
        assert!(is_written.unwrap());
        let there = std::fs::read_to_string(&path).unwrap();
        assert_eq!(conflist::without_plugin(&there).unwrap(), Some(list("third")));
    }
    // It does not go on for ever with an owner who does.
    let mut number = 0;
    let with_plugin = |text: &str| Ok(conflist::with_plugin(text, &chain.entry()).unwrap());
    by_renaming(&list("before"));
    let result = edit(&path, read(&path).unwrap(), with_plugin, &mut || {
        number += 1;
        by_renaming(&list(&number.to_string()));
    });
    assert!(matches!(result, Err(InstallError::Busy(_))));
    assert_eq!(std::fs::read_to_string(&path).unwrap(), list(&number.to_string()));
    assert_eq!(names(&folder), ["10-x.conflist"]);
}

#[test]
fn an_owner_who_writes_all_the_time_loses_nothing() {
    let (folder, chain) = chain(&[("10-x.conflist", LIST)]);
    let path = folder.path().join("10-x.conflist");
    let (is_over, rounds) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                // Somebody who writes all the time may be met at each attempt.
                let _ = chain.install();
                rounds.fetch_add(1, Ordering::SeqCst);
            }
        });
        for number in 0..200 {
            let text = list(&number.to_string());
            // The second write comes at some moment of the edit that the first one causes.
            for (text, pause) in [(list("first"), number % 20), (text.clone(), 0)] {
                std::fs::write(folder.path().join("new"), text).unwrap();
                std::fs::rename(folder.path().join("new"), &path).unwrap();
                std::thread::sleep(Duration::from_micros(100 * pause));
            }
            // An install that was under way when the file was written, and a whole one after it.
            let before = rounds.load(Ordering::SeqCst);
            while rounds.load(Ordering::SeqCst) < before + 2 {
                std::thread::yield_now();
            }
            let there = std::fs::read_to_string(&path).unwrap();
            let without = conflist::without_plugin(&there).unwrap();
            if without.as_ref() != Some(&text) {
                is_over.store(true, Ordering::Relaxed);
                panic!("{number} was overwritten: {there}");
            }
        }
        is_over.store(true, Ordering::Relaxed);
    });
}

#[test]
fn what_cannot_be_done_changes_nothing_and_says_why() {
    let (folder, mut chain) = chain(&[]);
    assert!(matches!(chain.install(), Err(InstallError::NoConfiguration(_))));
    std::fs::write(folder.path().join("10-x.conflist"), "{\"plugins\": [").unwrap();
    let error = chain.install().unwrap_err().to_string();
    assert!(error.contains("10-x.conflist") && error.contains("EOF"), "{error}");
    assert_eq!(std::fs::read_to_string(folder.path().join("10-x.conflist")).unwrap(), "{\"plugins\": [");
    chain.configurations = folder.path().join("missing");
    assert!(chain.install().unwrap_err().to_string().contains("missing"));
}

#[test]
fn it_is_put_back_whenever_somebody_writes_the_file_again() {
    let (folder, chain) = chain(&[]);
    let path = folder.path().join("10-x.conflist");
    let (tell, told) = channel();
    std::thread::spawn(move || Kept::new(chain).keep(|result| tell.send(result.ok()).is_ok()));
    let wait = |wanted: Option<Outcome>| {
        while told.recv_timeout(Duration::from_secs(60)).expect("it goes on") != wanted {}
    };
    wait(None);
    for _ in 0..3 {
        // In place, as some plugins do, and in one step, as others do.
        std::fs::write(&path, LIST).unwrap();
        wait(Some(Outcome::Written(path.canonicalize().unwrap())));
        std::fs::write(folder.path().join("new"), LIST).unwrap();
        std::fs::rename(folder.path().join("new"), &path).unwrap();
        wait(Some(Outcome::Written(path.clone())));
        assert!(conflist::has_plugin(&std::fs::read_to_string(&path).unwrap()));
    }
    std::fs::remove_file(&path).unwrap();
    wait(None);
}

#[test]
fn what_has_left_the_chain_is_not_put_back() {
    let (folder, chain) = chain(&[("10-x.conflist", LIST)]);
    let path = folder.path().join("10-x.conflist");
    let kept = Kept::new(chain);
    let (tell, told) = channel();
    let keeper = std::thread::spawn({
        let kept = kept.clone();
        move || kept.keep(|result| tell.send(result.ok()).is_ok())
    });
    assert_eq!(told.recv_timeout(Duration::from_secs(60)).unwrap(), Some(Outcome::Written(path.clone())));
    assert_eq!(kept.leave().unwrap(), [path.as_path()]);
    // It ends by itself, because the folder has changed.
    keeper.join().unwrap();
    assert!(kept.has_left());
    assert_eq!(std::fs::read_to_string(&path).unwrap(), LIST);
}

#[test]
fn whoever_disagrees_is_answered_more_and_more_slowly() {
    let start = Instant::now();
    let mut pace = Pace { last: start, writes: 0 };
    let hour = start + Duration::from_secs(3600);
    let waits: Vec<u128> = (0..200).map(|n| pace.after_write(hour + Duration::from_secs(n)).as_millis()).collect();
    assert_eq!((waits[0], waits[1], waits[2], waits[199]), (0, 50, 100, 5000));
    assert_eq!(pace.after_write(hour + Duration::from_secs(400)).as_millis(), 0);
}

#[test]
fn the_program_is_copied_once() {
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("program");
    std::fs::write(&program, "1").unwrap();
    let bin = folder.path().join("opt/cni/bin");
    assert!(copy_plugin(&program, &bin).unwrap());
    assert!(!copy_plugin(&program, &bin).unwrap());
    std::fs::write(&program, "2").unwrap();
    assert!(copy_plugin(&program, &bin).unwrap());
    assert_eq!(std::fs::read_to_string(bin.join(PLUGIN)).unwrap(), "2");
    assert_eq!(std::fs::metadata(bin.join(PLUGIN)).unwrap().permissions().mode() & 0o777, 0o755);
}
