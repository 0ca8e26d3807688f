use std::io::Write;
use std::path::Path;

use policy_core::model::Change;

use super::super::Problems;
use super::*;

const GOOD: &str =
    "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: a, namespace: x}\nspec: {podSelector: {}}\n";
/// Enough looks for anything to settle that ever does.
const MANY: u32 = 4 * PATIENCE;

fn policy(name: &str) -> String {
    GOOD.replace("name: a", &format!("name: {name}"))
}

/// A folder and the source that looks at it.
struct Lab {
    parent: tempfile::TempDir,
    source: Manifests,
    problems: Problems,
    extent: SyncState,
    changes: Vec<Change>,
}

impl Lab {
    /// A folder with these files, which the source has read.
    fn new(files: &[(&str, &str)]) -> Self {
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("manifests");
        std::fs::create_dir(&folder).unwrap();
        let source = Manifests::new(folder);
        let mut lab = Self { parent, source, problems: Problems::default(), extent: SyncState::Listing, changes: Vec::new() };
        for (name, text) in files {
            lab.write(name, text);
        }
        lab.settle();
        lab.changes.clear();
        lab
    }

    fn at(&self, name: &str) -> PathBuf {
        self.source.folder.join(name)
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.at(name), text).unwrap();
    }

    fn look(&mut self) {
        if let Some(news) = self.source.look() {
            self.problems.take(news.problems);
            self.extent = news.extent;
            self.changes.extend(news.changes);
        }
    }

    fn settle(&mut self) {
        (0..3).for_each(|_| self.look());
    }

    /// What became different, once everything has settled.
    fn changes(&mut self) -> Vec<Change> {
        self.settle();
        std::mem::take(&mut self.changes)
    }

    /// Nothing became different, and the only problem says this.
    fn is_kept(&mut self, why: &str) {
        (0..MANY).for_each(|_| self.look());
        assert!(self.changes.is_empty(), "{:?}", self.changes);
        let shown = self.problems.shown();
        assert!(shown.len() == 1 && shown.iter().all(|problem| problem.contains(why)), "{shown:?}");
    }

    /// A new agent that looks at the same folder.
    fn restart(&mut self) -> SyncState {
        self.source = Manifests::new(self.source.folder.clone());
        (self.extent, self.problems) = (SyncState::Listing, Problems::default());
        (0..MANY).for_each(|_| self.look());
        self.extent
    }
}

fn is_removal(changes: &[Change]) -> bool {
    matches!(changes, [Change::PolicyRemoved(_)])
}

#[test]
fn a_broken_file_keeps_what_it_said() {
    let mut lab = Lab::new(&[]);
    lab.write("a.yaml", GOOD);
    lab.look();
    assert!(lab.changes.is_empty(), "one look is not enough");
    let first = lab.changes();
    assert!(lab.extent == SyncState::Synced && first.iter().any(|c| matches!(c, Change::Policy(_))), "{first:?}");
    assert!(lab.changes().is_empty(), "nothing changed");

    lab.write("a.yaml", &GOOD.replace("podSelector: {}", "podSelector: {"));
    lab.is_kept("a.yaml:4");

    // Another file may change meanwhile.
    lab.write("b.yaml", &policy("b"));
    assert_eq!(lab.changes().len(), 1);
    assert_eq!(lab.problems.len(), 1);

    std::fs::remove_file(lab.at("a.yaml")).unwrap();
    assert!(is_removal(&lab.changes()));
    assert!(lab.problems.is_empty(), "b.yaml is still there");
}

#[test]
fn a_file_is_not_read_by_halves() {
    let both = format!("{GOOD}---\n{}", policy("b"));
    let mut lab = Lab::new(&[("a.yaml", &both), ("other.yaml", &policy("other"))]);
    // An editor empties the file, deletes it, and writes it again, with a look between every two steps.
    lab.write("a.yaml", GOOD);
    lab.look();
    std::fs::remove_file(lab.at("a.yaml")).unwrap();
    lab.look();
    lab.write("a.yaml", &format!("{both}---\n"));
    assert!(lab.changes().is_empty());
}

#[test]
fn what_never_was_good_is_not_everything() {
    let mut lab = Lab::new(&[("a.yaml", "apiVersion: [\n")]);
    assert_eq!(lab.extent, SyncState::Partial);
    // A policy with a fault is known for what it is: it isolates, and allows nothing (S1.20).
    lab.write("a.yaml", &GOOD.replace("podSelector: {}", "podSelectors: {}"));
    lab.settle();
    assert!(lab.extent == SyncState::Synced && !lab.problems.is_empty());
    // A kind that is not known may be that of a policy.
    lab.write("a.yaml", &GOOD.replace("kind: NetworkPolicy", "kind: NetworkPolicyy"));
    assert_eq!(lab.restart(), SyncState::Partial);
    lab.write("a.yaml", &GOOD.replace("networking.k8s.io/v1", "networking.k8s.io/v2"));
    assert_eq!(lab.restart(), SyncState::Partial);
    // It is not known which namespace is meant, or which namespaces selectors match.
    lab.write("a.yaml", &GOOD.replace("namespace: x", "namespace: 7"));
    assert_eq!(lab.restart(), SyncState::Partial);
    lab.write("a.yaml", "{apiVersion: v1, kind: Namespace, metadata: {name: x, labels: {team: 7}}}");
    assert_eq!(lab.restart(), SyncState::Partial);
    std::fs::remove_file(lab.at("a.yaml")).unwrap();
    assert!(lab.restart() == SyncState::Partial && lab.problems.len() == 1);
    std::fs::remove_dir(&lab.source.folder).unwrap();
    assert!(lab.restart() == SyncState::Partial && lab.problems.len() == 1);
}

#[test]
fn a_kind_that_is_not_known_any_more_keeps_what_it_said() {
    for (good, bad) in [("kind: NetworkPolicy", "kind: NetworkPolicyy"), ("io/v1", "io/v2"), (GOOD, "404: not found\n")] {
        let mut lab = Lab::new(&[("a.yaml", GOOD), ("b.yaml", &policy("b"))]);
        lab.write("a.yaml", &GOOD.replace(good, bad));
        lab.is_kept("a.yaml");
    }
}

#[test]
fn a_link_to_nowhere_is_no_deletion() {
    let mut lab = Lab::new(&[("b.yaml", &policy("b"))]);
    let target = lab.parent.path().join("target");
    std::fs::write(&target, GOOD).unwrap();
    std::os::unix::fs::symlink(&target, lab.at("a.yaml")).unwrap();
    assert_eq!(lab.changes().len(), 1);
    std::fs::remove_file(&target).unwrap();
    lab.is_kept("a.yaml");
    // A new agent does not know what it said.
    assert_eq!(lab.restart(), SyncState::Partial);
}

#[test]
fn an_emptied_file_keeps_what_it_said_until_it_says_that_there_is_nothing() {
    for nothing in ["", "# nothing\n", " \n\n", "---\n---\n# a\n", "null\n"] {
        let mut lab = Lab::new(&[("a.yaml", GOOD), ("b.yaml", &policy("b"))]);
        lab.write("a.yaml", nothing);
        lab.is_kept("a.yaml: it is empty");
        assert_eq!(lab.restart(), SyncState::Partial, "a new agent does not know what it said");
    }
    let mut lab = Lab::new(&[("a.yaml", GOOD)]);
    lab.write("a.yaml", "{apiVersion: v1, kind: List, items: []}\n");
    assert!(lab.changes().iter().any(|change| matches!(change, Change::PolicyRemoved(_))));
    assert!(lab.problems.is_empty() && lab.extent == SyncState::Synced);
    assert!(lab.restart() == SyncState::Synced && lab.problems.is_empty());
}

#[test]
fn a_valid_file_with_fewer_objects_is_a_change() {
    let mut lab = Lab::new(&[("a.yaml", &format!("{GOOD}---\n{}", policy("b")))]);
    lab.write("a.yaml", GOOD);
    assert!(is_removal(&lab.changes()));
}

#[test]
fn an_emptied_folder_keeps_what_was_there() {
    let mut lab = Lab::new(&[("a.yaml", GOOD), ("b.yaml", &policy("b"))]);
    for name in ["a.yaml", "b.yaml"] {
        std::fs::remove_file(lab.at(name)).unwrap();
    }
    lab.write("a.yaml.bak", GOOD);
    lab.is_kept("no longer has manifests");
    // Something is there again: then it is the folder, and what is not in it is gone.
    lab.write("b.yaml", &policy("b"));
    assert!(is_removal(&lab.changes()));
    assert!(lab.problems.is_empty());
    lab.write("c.yaml", "{apiVersion: v1, kind: List, items: []}\n");
    std::fs::remove_file(lab.at("b.yaml")).unwrap();
    assert!(lab.changes().iter().any(|change| matches!(change, Change::PolicyRemoved(_))), "it is said that there is nothing");
}

#[test]
fn a_folder_that_goes_away_or_is_replaced_takes_nothing_with_it() {
    let mut lab = Lab::new(&[("a.yaml", GOOD), ("b.yaml", &policy("b"))]);
    let (folder, away) = (lab.source.folder.clone(), lab.parent.path().join("away"));
    std::fs::rename(&folder, &away).unwrap();
    lab.is_kept("cannot open the directory");
    let freshness = lab.source.beat.freshness(Instant::now());
    assert!(freshness.stale_for.is_some() && freshness.trouble.is_some(), "{freshness:?}");
    // An empty mount point.
    std::fs::create_dir(&folder).unwrap();
    lab.is_kept("no longer has manifests");
    std::fs::remove_dir(&folder).unwrap();
    std::fs::rename(&away, &folder).unwrap();
    assert!(lab.changes().is_empty() && lab.problems.is_empty());
    // A folder with other manifests in its place, seen whole twice.
    std::fs::rename(&folder, &away).unwrap();
    std::fs::create_dir(&folder).unwrap();
    lab.write("b.yaml", &policy("b"));
    assert!(is_removal(&lab.changes()));
}

#[test]
fn a_folder_below_is_a_mount_too() {
    let mut lab = Lab::new(&[("a.yaml", GOOD)]);
    for team in ["one", "two"] {
        std::fs::create_dir(lab.at(team)).unwrap();
        lab.write(&format!("{team}/p.yaml"), &policy(team));
    }
    let elsewhere = lab.parent.path().join("elsewhere");
    std::fs::create_dir(&elsewhere).unwrap();
    std::fs::write(elsewhere.join("p.yaml"), policy("three")).unwrap();
    std::os::unix::fs::symlink(&elsewhere, lab.at("three")).unwrap();
    assert_eq!(lab.changes().len(), 3);
    std::fs::remove_file(lab.at("one/p.yaml")).unwrap();
    lab.is_kept("one: it no longer has manifests");
    lab.write("one/p.yaml", &policy("one"));
    assert!(lab.changes().is_empty() && lab.problems.is_empty());
    // The link leads nowhere for a while.
    std::fs::rename(&elsewhere, lab.parent.path().join("moved")).unwrap();
    lab.is_kept("three: the link is broken");
    std::fs::rename(lab.parent.path().join("moved"), &elsewhere).unwrap();
    assert!(lab.changes().is_empty() && lab.problems.is_empty());
    // A folder that is removed with what is in it is meant to be.
    std::fs::remove_dir_all(lab.at("two")).unwrap();
    assert!(is_removal(&lab.changes()));
}

#[test]
fn a_folder_that_cannot_be_listed_holds_up_deletions_only() {
    let mut lab = Lab::new(&[("a.yaml", GOOD), ("b.yaml", &policy("b"))]);
    std::os::unix::fs::symlink(lab.at("loop"), lab.at("loop")).unwrap();
    std::fs::remove_file(lab.at("a.yaml")).unwrap();
    lab.is_kept("loop");
    lab.write("c.yaml", &policy("c"));
    assert!(matches!(lab.changes().as_slice(), [Change::Policy(_)]));
    std::fs::remove_file(lab.at("loop")).unwrap();
    assert!(is_removal(&lab.changes()));
}

#[test]
fn a_renamed_file_never_leaves_a_gap() {
    let mut lab = Lab::new(&[("a.yaml", GOOD), ("b.yaml", &policy("b"))]);
    std::fs::rename(lab.at("a.yaml"), lab.at("z.yaml")).unwrap();
    (0..MANY).for_each(|_| lab.look());
    let is_only_the_origin = |change: &Change| matches!(change, Change::Policy(policy) if policy.key.name == "a");
    assert!(lab.changes.iter().all(is_only_the_origin), "{:?}", lab.changes);
    // To something that is no manifest, it is a deletion.
    std::fs::rename(lab.at("z.yaml"), lab.at("z.yaml.bak")).unwrap();
    lab.changes.clear();
    assert!(is_removal(&lab.changes()));
}

#[test]
fn what_is_no_regular_file_is_named_and_holds_up_nothing() {
    let make_fifo = |path: &Path| nix::unistd::mkfifo(path, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let mut lab = Lab::new(&[("a.yaml", GOOD)]);
    make_fifo(&lab.at("x.yaml"));
    lab.write("b.yaml", &policy("b"));
    assert_eq!(lab.changes().len(), 1);
    lab.is_kept("x.yaml: cannot read the file: it is a named pipe");
    std::fs::remove_file(lab.at("x.yaml")).unwrap();
    lab.settle();
    assert!(lab.problems.is_empty());
    // In place of a file that was good.
    let _socket = std::os::unix::net::UnixListener::bind(lab.parent.path().join("socket")).unwrap();
    for (target, what) in [("/dev/zero", "a device"), ("socket", "a socket"), ("pipe", "a named pipe")] {
        if target == "pipe" {
            make_fifo(&lab.parent.path().join("pipe"));
        }
        std::fs::remove_file(lab.at("a.yaml")).unwrap();
        std::os::unix::fs::symlink(lab.parent.path().join(target), lab.at("a.yaml")).unwrap();
        lab.is_kept(what);
    }
    std::fs::remove_file(lab.at("a.yaml")).unwrap();
    lab.write("a.yaml", GOOD);
    lab.settle();
    std::fs::remove_file(lab.at("a.yaml")).unwrap();
    std::fs::create_dir(lab.at("a.yaml")).unwrap();
    lab.is_kept("a directory has replaced the file");
    // A new agent starts with what it can read, and does not take the rest for nothing.
    make_fifo(&lab.at("x.yaml"));
    assert_eq!(lab.restart(), SyncState::Partial);
    assert!(!lab.problems.is_empty() && !lab.changes.is_empty());
}

#[test]
fn equal_size_and_time_hide_no_change() {
    let mut lab = Lab::new(&[("a.yaml", GOOD)]);
    let time = std::fs::metadata(lab.at("a.yaml")).unwrap().modified().unwrap();
    lab.write("a.yaml", &policy("q"));
    std::fs::File::options().write(true).open(lab.at("a.yaml")).unwrap().set_modified(time).unwrap();
    let changes = lab.changes();
    assert!(changes.iter().any(|change| matches!(change, Change::Policy(policy) if policy.key.name == "q")), "{changes:?}");
}

#[test]
fn what_was_written_within_one_tick_of_the_clock_is_seen_later() {
    let mut lab = Lab::new(&[("a.yaml", GOOD)]);
    lab.write("a.yaml", &policy("q"));
    // The stamp of what is there belongs to what was there.
    let path = lab.at("a.yaml");
    let seen = stamp(&path);
    lab.source.files.get_mut(&path).unwrap().stamp = seen;
    lab.source.seen.as_mut().unwrap().stamps.insert(path, seen);
    lab.look();
    assert!(lab.changes.is_empty(), "it cannot be seen yet");
    (0..2 * AGAIN + 2).for_each(|_| lab.look());
    assert!(lab.changes.iter().any(|change| matches!(change, Change::Policy(policy) if policy.key.name == "q")));
    assert!(!lab.source.files.values().any(|file| file.is_due(u32::MAX)), "it is not read for ever");
}

#[test]
fn a_file_that_is_touched_all_the_time_is_read() {
    let mut lab = Lab::new(&[("b.yaml", &policy("b"))]);
    let touch = |lab: &Lab, text: &str| {
        std::fs::remove_file(lab.at("a.yaml")).ok();
        lab.write("new", text);
        std::fs::rename(lab.at("new"), lab.at("a.yaml")).unwrap();
    };
    let run = |lab: &mut Lab, text: &dyn Fn(u32) -> String| {
        for look in 0..MANY {
            touch(lab, &text(look));
            lab.look();
        }
    };
    run(&mut lab, &|_| GOOD.to_owned());
    assert!(matches!(lab.changes.as_slice(), [Change::Policy(_)]) && lab.problems.is_empty(), "{:?}", lab.changes);
    lab.changes.clear();
    // What never says the same twice keeps what it said.
    run(&mut lab, &policy_of_look);
    assert!(
        lab.changes.is_empty() && lab.problems.shown().iter().all(|p| p.contains("changes all the time")),
        "{:?}",
        lab.changes
    );
    assert_eq!(lab.problems.len(), 1);

    // A new agent starts all the same, and takes the file for what it is: unread.
    lab.source = Manifests::new(lab.source.folder.clone());
    lab.extent = SyncState::Listing;
    run(&mut lab, &policy_of_look);
    assert!(
        lab.extent == SyncState::Partial
            && lab.changes.iter().any(|change| matches!(change, Change::Policy(p) if p.key.name == "b"))
    );
    lab.write("a.yaml", GOOD);
    lab.settle();
    assert_eq!(lab.extent, SyncState::Synced);
}

fn policy_of_look(look: u32) -> String {
    policy(&format!("p{look}"))
}

#[test]
fn files_that_come_and_go_keep_nobody_from_starting() {
    let mut lab = Lab::new(&[]);
    lab.source = Manifests::new(lab.source.folder.clone());
    lab.write("b.yaml", &policy("b"));
    lab.extent = SyncState::Listing;
    for look in 0..MANY {
        lab.write(&format!("{look}.yaml"), GOOD);
        lab.look();
        std::fs::remove_file(lab.at(&format!("{look}.yaml"))).unwrap();
    }
    assert_eq!(lab.extent, SyncState::Synced);
}

#[test]
fn broken_and_large_files_are_named_and_hold_up_nothing() {
    let mut lab = Lab::new(&[("a.yaml", GOOD), ("b.yaml", &policy("b"))]);
    let mut bomb = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    let block = vec![b'#'; 1 << 20];
    (0..=LARGEST >> 20).for_each(|_| bomb.write_all(&block).unwrap());
    let bomb = bomb.finish().unwrap();
    for (name, bytes) in [("bomb.yaml.gz", bomb.as_slice()), ("cut.yaml.gz", bomb.get(..bomb.len() / 100).unwrap())] {
        std::fs::write(lab.at(name), bytes).unwrap();
        lab.is_kept(name);
        assert!(!lab.source.files.values().any(|file| file.is_due(u32::MAX)), "it is not read again and again");
        std::fs::remove_file(lab.at(name)).unwrap();
        lab.settle();
    }
    // Larger than the limit, and hardly a block on the disk: it is not even read.
    std::fs::File::create(lab.at("hole.yaml")).unwrap().set_len(LARGEST + 1).unwrap();
    lab.write("c.yaml", &policy("c"));
    assert_eq!(lab.changes().len(), 1);
    lab.is_kept("hole.yaml: cannot read the file: it is larger than 256 MiB; split it");
}

#[test]
fn small_files_do_not_wait_for_large_ones() {
    let mut lab = Lab::new(&[("a.yaml", GOOD)]);
    for name in ["1.yaml", "2.yaml"] {
        std::fs::write(lab.at(name), vec![b'\n'; usize::try_from(MOST_READ).unwrap()]).unwrap();
    }
    lab.write("z.yaml", &policy("z"));
    lab.look();
    lab.look();
    assert!(matches!(lab.changes.as_slice(), [Change::Policy(_)]), "{:?}", lab.changes);
    assert!(lab.problems.is_empty(), "they are not read yet");
    (0..2).for_each(|_| lab.look());
    assert_eq!(lab.problems.len(), 2);
}

#[test]
fn many_problems_cost_what_they_are() {
    let many: String =
        (0..20_000).map(|n| format!("{}---\n", policy(&format!("p{n}")).replace("podSelector: {}", "a: 1, b: 2"))).collect();
    let mut lab = Lab::new(&[("a.yaml", GOOD), ("many.yaml", &many)]);
    assert_eq!(lab.problems.len(), 40_000);
    lab.write("a.yaml", &policy("b"));
    let news = (0..3).filter_map(|_| lab.source.look()).last().unwrap();
    assert!(news.problems.is_empty() && news.changes.len() == 2, "{:?}", news.changes);
}
