use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};

use netlink_packet_core::DefaultNla;
use policy_ruleset::Element;

use super::*;

/// What the fakes of a test share.
#[derive(Default)]
struct World {
    entries: BTreeMap<u32, Tuple>,
    /// Sources whose connections are not allowed.
    denied: BTreeSet<IpAddr>,
    unclaimed: BTreeSet<IpAddr>,
    /// Connections that both ends have closed.
    closed: BTreeSet<u32>,
    undeletable: BTreeSet<u32>,
    held: BTreeSet<Element>,
    /// Scopes that were listed.
    looks: Vec<Scope>,
    tokens: Vec<(u64, bool)>,
    judged: Vec<usize>,
    releases: usize,
    cannot_list: bool,
    is_out_of_force: bool,
    node: Option<BTreeSet<IpAddr>>,
}

#[derive(Clone)]
struct Fake(Arc<Mutex<World>>);

impl Fake {
    fn world(&self) -> MutexGuard<'_, World> {
        self.0.lock().unwrap()
    }
}

impl Connections for Fake {
    fn list(&mut self, scope: &Scope, take: &mut dyn FnMut(Entry)) -> io::Result<usize> {
        let mut world = self.world();
        world.looks.push(scope.clone());
        if world.cannot_list {
            return Err(io::ErrorKind::OutOfMemory.into());
        }
        let (entries, closed) = (world.entries.clone(), world.closed.clone());
        drop(world);
        let is_in = |tuple: &Tuple| scope.has(&tuple.source) || scope.has(&tuple.destination);
        for (id, tuple) in entries.into_iter().filter(|(_, tuple)| is_in(tuple)) {
            take(Entry {
                tuple,
                is_closed: closed.contains(&id),
                identity: vec![DefaultNla::new(12, id.to_be_bytes().to_vec())],
            });
        }
        Ok(0)
    }

    fn delete(&mut self, entry: &Entry) -> io::Result<bool> {
        let mut world = self.world();
        let id = *world.entries.iter().find(|(_, tuple)| **tuple == entry.tuple).ok_or(io::ErrorKind::NotFound)?.0;
        if world.undeletable.contains(&id) {
            return Err(io::ErrorKind::ResourceBusy.into());
        }
        Ok(world.entries.remove(&id).is_some())
    }

    fn held(&mut self) -> io::Result<Vec<Element>> {
        Ok(self.world().held.iter().copied().collect())
    }
}

impl Enforcement for Fake {
    fn judge(&mut self, tuples: &[Tuple]) -> Option<Vec<Judgement>> {
        let mut world = self.world();
        if world.is_out_of_force {
            return None;
        }
        world.judged.push(tuples.len());
        let doomed: Vec<bool> = tuples.iter().map(|tuple| world.denied.contains(&tuple.source)).collect();
        let held = tuples.iter().zip(&doomed).filter(|(_, is_doomed)| **is_doomed).filter_map(|(tuple, _)| tuple.reverse());
        world.held.extend(held);
        let unclaimed = |tuple: &Tuple| [tuple.source, tuple.destination].map(|address| world.unclaimed.contains(&address));
        let judgement = |(tuple, is_doomed): (&Tuple, bool)| match is_doomed {
            true => Judgement::Denied { is_unclaimed: unclaimed(tuple) },
            false => Judgement::Allowed,
        };
        Some(tuples.iter().zip(doomed).map(judgement).collect())
    }

    fn release(&mut self, held: &[Element]) -> Option<bool> {
        let mut world = self.world();
        world.releases += 1;
        for element in held {
            if Tuple::kept_cut_by(element).is_some_and(|tuple| !world.denied.contains(&tuple.source)) {
                world.held.remove(element);
            }
        }
        Some(true)
    }

    fn forget(&mut self, held: &[Element]) -> Option<()> {
        let mut world = self.world();
        world.held.retain(|element| !held.contains(element));
        Some(())
    }

    fn looked(&mut self, token: u64, result: LookResult) {
        self.world().tokens.push((token, result.is_ok()));
    }
}

#[derive(Clone)]
struct Hand(Arc<Mutex<Instant>>);

impl Clock for Hand {
    fn now(&self) -> Instant {
        *self.0.lock().unwrap()
    }
}

struct Test {
    terminator: Terminator<Fake, Fake, Hand>,
    fake: Fake,
    clock: Hand,
}

impl Test {
    fn new() -> Self {
        let fake = Fake(Arc::new(Mutex::new(World { node: Some([ip(254)].into()), ..World::default() })));
        let clock = Hand(Arc::new(Mutex::new(Instant::now())));
        let nodes = fake.clone();
        let node = KnownAddresses::new(move || nodes.world().node.clone().ok_or_else(|| io::Error::from_raw_os_error(24)));
        let metrics = Metrics::new().unwrap();
        let terminator = Terminator::new(fake.clone(), fake.clone(), clock.clone(), node, metrics);
        Self { terminator, fake, clock }
    }

    fn world(&self) -> MutexGuard<'_, World> {
        self.fake.world()
    }

    fn order(&mut self, scope: Scope) {
        self.terminator.take(Order { scope, token: None, has_gains: false });
    }

    fn token(&mut self, token: u64, address: u8) {
        self.terminator.take(Order { scope: scope(address), token: Some(token), has_gains: false });
    }

    /// Lets time pass, doing what is due in between.
    fn pass(&mut self, time: Duration) {
        let end = self.clock.now() + time;
        loop {
            while self.terminator.work() {}
            let now = self.clock.now();
            if now >= end {
                return;
            }
            let step = self.terminator.until_next().clamp(Duration::from_millis(1), end - now);
            *self.clock.0.lock().unwrap() += step;
        }
    }
}

const MS: Duration = Duration::from_millis(1);

fn ip(last: u8) -> IpAddr {
    IpAddr::V4([10, 0, 0, last].into())
}

fn scope(last: u8) -> Scope {
    Scope::Addresses([ip(last)].into())
}

fn udp(from: u8, port: u16, to: u8) -> Tuple {
    Tuple { source: ip(from), destination: ip(to), protocol: 17, ports: Some((port, 53)), is_translated: false }
}

#[test]
fn denied_connections_are_deleted_and_held_first_and_others_stay() {
    let mut test = Test::new();
    test.world().entries = [(1, udp(1, 1, 9)), (2, udp(2, 1, 9)), (3, udp(254, 1, 9))].into();
    test.world().denied = [ip(1), ip(254)].into();
    test.order(scope(9));
    test.pass(Duration::ZERO);
    let world = test.world();
    assert_eq!(world.entries.keys().collect::<Vec<_>>(), [&2, &3], "only what is denied, and never what the node opened");
    assert_eq!(world.held, [udp(1, 1, 9).reverse().unwrap()].into());
}

#[test]
fn what_is_over_or_has_lost_an_end_is_deleted_and_not_counted() {
    let mut test = Test::new();
    // 1 has ended; 2 comes from a pod that is gone; 3 comes from outside.
    test.world().entries = [(1, udp(1, 1, 9)), (2, udp(2, 1, 9)), (3, udp(3, 1, 9))].into();
    test.world().denied = [ip(1), ip(2), ip(3)].into();
    test.world().unclaimed = [ip(2), ip(3)].into();
    test.world().closed = [1].into();
    test.order(Scope::Addresses([ip(2), ip(9)].into()));
    test.pass(Duration::ZERO);
    assert!(test.world().entries.is_empty());
    assert_eq!(test.terminator.metrics.connections_cut.get(), 1, "what came from outside");
}

#[test]
fn second_looks_come_in_time_under_churn_and_are_few() {
    let mut test = Test::new();
    // A connection slips in just after the first look at its scope.
    test.order(scope(1));
    test.pass(Duration::ZERO);
    test.world().entries.insert(1, udp(1, 1, 9));
    test.world().denied.insert(ip(1));
    // Changes of other addresses come all the time.
    for i in 0..100 {
        test.order(scope(100 + (i % 100)));
        test.pass(10 * MS);
        assert!(test.terminator.schedule.second_looks() <= 6, "{} second looks wait", test.terminator.schedule.second_looks());
        if i >= 50 {
            assert!(test.world().entries.is_empty(), "the second look is put off by later changes");
        }
    }
}

#[test]
fn every_scope_is_looked_at_again_not_before_its_time() {
    let mut test = Test::new();
    let mut given = Vec::new();
    for i in 0..50 {
        test.order(scope(i));
        test.pass(Duration::ZERO);
        given.push(test.clock.now());
        test.pass(33 * MS);
        let now = test.clock.now();
        for (other, at) in given.iter().enumerate() {
            let looks = test.world().looks.iter().filter(|s| s.has(&ip(other as u8))).count();
            let age = now - *at;
            assert!(looks < 2 || age >= SECOND_LOOK, "the second look at {other} came after {age:?}");
            assert!(looks >= 2 || age < SECOND_LOOK + 200 * MS, "no second look at {other} after {age:?}");
        }
    }
}

#[test]
fn tokens_go_first_and_hold_up_nothing() {
    let mut test = Test::new();
    test.order(scope(1));
    test.token(7, 2);
    test.token(8, 3);
    assert!(test.terminator.work());
    assert_eq!(test.world().tokens, [(7, true), (8, true)], "one look serves all that wait");
    // More ADDs come all the time.
    test.token(9, 4);
    test.terminator.work();
    assert_eq!(test.world().looks.last(), Some(&scope(1)), "between two looks for ADDs, others have their turn");
    test.terminator.work();
    assert_eq!(test.world().tokens.last(), Some(&(9, true)));
}

#[test]
fn what_was_cut_at_an_address_is_forgotten_when_it_has_a_new_owner() {
    let mut test = Test::new();
    let kept = udp(3, 1, 8).reverse().unwrap();
    test.world().held = [udp(3, 1, 9).reverse().unwrap(), kept].into();
    test.world().entries = [(1, udp(1, 1, 9))].into();
    test.world().denied.insert(ip(1));
    test.token(1, 9);
    test.pass(Duration::ZERO);
    assert!(test.world().entries.is_empty(), "connections of the old owner end");
    assert_eq!(test.world().held, [kept].into());
}

#[test]
fn one_that_cannot_be_deleted_holds_up_none_and_is_tried_alone() {
    let mut test = Test::new();
    test.world().entries = (0..100).map(|i| (i, udp(1, i as u16, 9))).collect();
    test.world().denied.insert(ip(1));
    test.world().undeletable = [0].into();
    test.token(5, 9);
    test.pass(Duration::ZERO);
    assert_eq!(test.world().entries.len(), 1);
    assert_eq!(test.world().tokens, [(5, false)], "an ADD is refused while a connection of its address lives");
    test.pass(SECOND_LOOK + MS);
    let looks = test.world().looks.len();
    let judged = test.world().judged.len();
    test.pass(20_000 * MS);
    assert_eq!(test.world().looks.len(), looks, "only what failed is tried again");
    let tries = test.world().judged.len() - judged;
    assert!((4..10).contains(&tries), "{tries} tries in 20 seconds");
    test.world().undeletable.clear();
    test.pass(5_000 * MS);
    assert!(test.world().entries.is_empty());
    assert_eq!(test.terminator.stubborn.entries.len(), 0);
}

#[test]
fn what_cannot_be_listed_or_judged_is_looked_at_again() {
    for trouble in [|world: &mut World| world.cannot_list ^= true, |world: &mut World| world.is_out_of_force ^= true] {
        let mut test = Test::new();
        test.world().entries = [(1, udp(1, 1, 9))].into();
        test.world().denied.insert(ip(1));
        trouble(&mut test.world());
        test.order(scope(9));
        test.token(1, 8);
        test.pass(30_000 * MS);
        let looks = test.world().looks.len();
        assert!((6..20).contains(&looks), "{looks} looks in 30 seconds");
        assert_eq!(test.world().entries.len(), 1);
        trouble(&mut test.world());
        test.pass(5_000 * MS);
        assert!(test.world().entries.is_empty());
    }
}

#[test]
fn connections_are_judged_in_batches() {
    let mut test = Test::new();
    test.world().entries = (0..10_000).map(|i| (i, udp(2, i as u16, 9))).collect();
    test.order(Scope::All);
    test.pass(Duration::ZERO);
    assert_eq!(test.world().judged, [4096, 4096, 1808]);
}

#[test]
fn unknown_addresses_of_the_node_cut_nothing_and_known_ones_stay_known() {
    let mut test = Test::new();
    test.world().node = None;
    test.world().entries = [(1, udp(254, 1, 9)), (2, udp(1, 1, 9))].into();
    test.world().denied = [ip(254), ip(1)].into();
    test.order(Scope::All);
    test.pass(1_000 * MS);
    assert_eq!(test.world().entries.len(), 2, "either may be the node's own");
    test.world().node = Some([ip(254)].into());
    test.pass(5_000 * MS);
    assert_eq!(test.world().entries.keys().collect::<Vec<_>>(), [&1]);
    // Later the system has no file descriptor left.
    test.world().node = None;
    test.world().entries.insert(2, udp(1, 1, 9));
    test.order(Scope::All);
    test.pass(Duration::ZERO);
    assert_eq!(test.world().entries.keys().collect::<Vec<_>>(), [&1]);
}

#[test]
fn what_is_allowed_again_is_released_soon_and_not_all_the_time() {
    let mut test = Test::new();
    let (allowed, denied) = (udp(1, 1, 9).reverse().unwrap(), udp(2, 1, 9).reverse().unwrap());
    test.world().held = [allowed, denied].into();
    test.world().denied.insert(ip(2));
    test.terminator.take(Order { scope: Scope::none(), token: None, has_gains: true });
    test.pass(Duration::ZERO);
    assert_eq!(test.world().held, [denied].into());
    assert!(test.world().looks.is_empty());
    // A hundred changes a second that allow something.
    for _ in 0..300 {
        test.terminator.take(Order { scope: scope(1), token: None, has_gains: true });
        test.pass(10 * MS);
    }
    let releases = test.world().releases;
    assert!((3..=5).contains(&releases), "{releases} times in 3 seconds");
    test.world().denied.clear();
    test.terminator.take(Order { scope: scope(1), token: None, has_gains: true });
    test.pass(1_000 * MS);
    assert!(test.world().held.is_empty(), "the last one is not missed");
}
