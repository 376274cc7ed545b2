//! Lease maps against a model, by random steps: on the core in this process, behind the RPC, and behind the RPC of a process that
//! is killed with SIGKILL again and again.
//!
//! The model says of every message how often it was handed out and returned, who has it, or that it is done with; each answer, and
//! after each step the whole map, must agree. So nothing that was settled comes again, nothing is lost, counts are exact, and
//! messages come in their order. A kill takes back the leases, as if they had never been; what was answered stays.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use core_log::disk::Random;
use core_rpc::client::RemoteOptions;
use core_rpc::*;

use crate::process::Process;
use crate::queues;
use crate::support::*;

const STEPS: u32 = 250;
/// Of a core that is killed: steps between kills, and kills.
const STEPS_BEFORE_KILL: u64 = 40;
const KILLS: u32 = 5;
const HOLDERS: u64 = 3;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_local_core_agrees_with_the_model() {
    for seed in 0..20 {
        let world = local().await;
        run(&world.core, seed).await;
        world.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_core_behind_tcp_agrees_with_the_model() {
    for seed in 100..115 {
        let world = remote_tcp().await;
        run(&world.core, seed).await;
        world.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_core_that_is_killed_agrees_with_the_model() {
    for seed in 200..204 {
        let folder = tempfile::tempdir().unwrap();
        tokio::time::timeout(MINUTE * 3, run_with_kills(folder.path(), seed)).await.expect("in time");
    }
}

async fn run(core: &impl Core, seed: u64) {
    let mut model = Model::begin(core.clone(), seed).await;
    for step in 0..STEPS {
        model.step(&format!("seed {seed}, step {step}")).await;
    }
}

async fn run_with_kills(folder: &Path, seed: u64) {
    let listen = format!("unix:{}", folder.join("core.sock").display());
    let mut process = Process::start(folder, &listen);
    let options = RemoteOptions { connection_wait_max: MINUTE, ..RemoteOptions::default() };
    let core = RemoteCore::with_options(listen.parse().unwrap(), options);
    let mut model = Model::begin(core, seed).await;
    for kill in 0..KILLS {
        for step in 0..1 + model.random.below(STEPS_BEFORE_KILL) {
            model.step(&format!("seed {seed}, before kill {kill}, step {step}")).await;
        }
        // The blow falls while something is on its way; what becomes of that the map says.
        let under_way = model.begin_something();
        if model.random.below(2) == 0 {
            tokio::time::sleep(Duration::from_micros(model.random.below(3000))).await;
        }
        process.kill();
        process = Process::start(folder, &listen);
        model.killed(under_way.await).await;
        model.check(&format!("seed {seed}, after kill {kill}")).await;
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Message {
    acquisitions: u32,
    failures: u32,
    state: State,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    Free,
    /// By a holder; with its session, or for a minute.
    Held {
        holder: u64,
        in_session: bool,
    },
    Done,
}

impl Message {
    fn is_held_by(&self, by: u64) -> bool {
        matches!(self.state, State::Held { holder, .. } if holder == by)
    }

    fn settle(&mut self, settlement: Settlement) {
        self.state = match settlement {
            Settlement::Accept | Settlement::Reject => State::Done,
            Settlement::Release | Settlement::Fail => State::Free,
        };
        self.failures += u32::from(settlement == Settlement::Fail);
    }
}

/// What was asked when the blow fell, and its answer.
enum UnderWay {
    Append(u64, Result<Appended, AppendError>),
    Settle { range: SettleRange, holder: u64, answer: Result<(), LeaseError> },
    Transfer { offset: u64, holder: u64, answer: TransferAnswer },
    Acquire,
}

struct Model<C> {
    core: C,
    random: Random,
    partition: PartitionId,
    /// Of each holder, its session.
    sessions: Vec<SessionId>,
    /// By offset, without gaps.
    messages: Vec<Message>,
    /// What acquires say of what may have been handed out uncounted: so much, or at least so much.
    uncounted_before: Uncounted,
}

#[derive(Clone, Copy, Debug)]
enum Uncounted {
    Known(u64),
    AtLeast(u64),
}

fn group() -> GroupName {
    GroupName { namespace: "default".into(), group: "g".into() }
}

fn name(holder: u64) -> String {
    format!("holder {holder}")
}

impl<C: Core> Model<C> {
    async fn begin(core: C, seed: u64) -> Model<C> {
        let settings = TopicSettings { together: true, ..TopicSettings::default() };
        let made = core.topic_create(TopicCreate { settings, ..create("t", 1) }).await.expect("the topic is made");
        let partition = part(&made, 0);
        let mut model = Model {
            core,
            random: Random(seed),
            partition,
            sessions: Vec::new(),
            messages: Vec::new(),
            uncounted_before: Uncounted::Known(0),
        };
        model.open_sessions().await;
        model
    }

    async fn open_sessions(&mut self) {
        self.sessions.clear();
        for _ in 0..HOLDERS {
            self.sessions.push(self.core.session_open(MINUTE * 10).await.expect("a session"));
        }
    }

    async fn step(&mut self, place: &str) {
        match self.random.below(16) {
            0..3 => self.append().await,
            3..7 => self.acquire().await,
            7..10 => self.settle().await,
            10 => self.renew().await,
            11 => self.release().await,
            12 => self.end_session().await,
            13 => match self.random.below(3) {
                0 => self.seek().await,
                _ => self.discard().await,
            },
            14 => self.transfer().await,
            _ => self.leave_an_acquire().await,
        }
        self.check(place).await;
    }

    fn appended(&mut self, base: u64, count: u64) {
        assert_eq!(base, self.messages.len() as u64);
        let new = Message { acquisitions: 0, failures: 0, state: State::Free };
        self.messages.extend((0..count).map(|_| new.clone()));
    }

    fn floor(&self) -> u64 {
        self.messages.iter().take_while(|message| message.state == State::Done).count() as u64
    }

    fn is_held(&self, first: u64, last: u64, holder: u64) -> bool {
        (first..=last).all(|at| self.messages.get(at as usize).is_some_and(|message| message.is_held_by(holder)))
    }

    async fn append(&mut self) {
        let count = 1 + self.random.below(5);
        let appended =
            append_one(&self.core, self.partition, batch(count as u32, 0, b"content")).await.expect("appends");
        self.appended(appended.base_offset, count);
    }

    fn request(&self, holder: u64, in_session: bool, credit: u64, wait: Duration) -> AcquireRequest {
        let lease = if in_session { Lease::Session(self.sessions[holder as usize]) } else { Lease::Timed(MINUTE * 10) };
        let request = queues::request(self.partition, credit as u32, wait);
        AcquireRequest { group: group(), holder: name(holder), lease, ..request }
    }

    async fn acquire(&mut self) {
        let (holder, in_session) = (self.random.below(HOLDERS), self.random.below(3) > 0);
        let credit = 1 + self.random.below(6);
        let request = self.request(holder, in_session, credit, Duration::ZERO);
        let acquired = self.core.acquire(request).await.remove(0).expect("acquires");
        let free = (0..).zip(&self.messages).filter(|(_, message)| message.state == State::Free);
        let expected: Vec<u64> = free.map(|(at, _)| at).take(credit as usize).collect();
        let got: Vec<u64> = acquired.ranges.iter().flat_map(|range| range.first..=range.last).collect();
        assert_eq!(got, expected, "{acquired:?}");
        if !got.is_empty() {
            match self.uncounted_before {
                Uncounted::Known(before) => assert_eq!(acquired.uncounted_before, before),
                Uncounted::AtLeast(before) => assert!(acquired.uncounted_before >= before),
            }
            self.uncounted_before = Uncounted::Known(acquired.uncounted_before);
        }
        for range in &acquired.ranges {
            for offset in range.first..=range.last {
                let message = &mut self.messages[offset as usize];
                message.acquisitions += 1;
                message.state = State::Held { holder, in_session };
                assert_eq!((range.acquisitions, range.failures), (message.acquisitions, message.failures), "{offset}");
            }
        }
    }

    fn some_range(&mut self) -> (u64, u64) {
        let first = self.random.below(self.messages.len() as u64 + 1);
        (first, first + self.random.below(3))
    }

    fn some_settlement(&mut self) -> Settlement {
        match self.random.below(6) {
            0 => Settlement::Release,
            1 => Settlement::Reject,
            2 => Settlement::Fail,
            _ => Settlement::Accept,
        }
    }

    async fn settle(&mut self) {
        let holder = self.random.below(HOLDERS);
        let ranges: Vec<SettleRange> = (0..=self.random.below(3))
            .map(|_| {
                let (first, last) = self.some_range();
                SettleRange::new(first, last, self.some_settlement())
            })
            .collect();
        let durable = self.random.below(2) == 0;
        let answers = ask_to_settle(&self.core, self.partition, holder, ranges.clone(), durable).await;
        // All are looked at one behind the other, but the floor moves when they are kept.
        let floor = self.floor();
        for (range, answer) in ranges.into_iter().zip(answers) {
            let first = range.first.max(floor);
            match answer {
                Ok(()) => {
                    assert!(self.is_held(first, range.last, holder), "{range:?} of {holder}");
                    (first..=range.last).for_each(|at| self.messages[at as usize].settle(range.settlement));
                }
                Err(LeaseError::Passed) => assert!(range.last < floor),
                Err(LeaseError::NotHeld) => assert!(!self.is_held(first, range.last, holder), "{range:?} of {holder}"),
                Err(error) => panic!("{error}"),
            }
        }
    }

    async fn renew(&mut self) {
        let (holder, (first, last)) = (self.random.below(HOLDERS), self.some_range());
        let partitions = vec![(self.partition, vec![(first, last)])];
        let lease = Lease::Timed(MINUTE * 10);
        let request = RenewRequest { group: group(), holder: name(holder), partitions, lease };
        let answer = self.core.renew(request).await[0][0];
        let (floor, held) = (self.floor(), self.is_held(first.max(self.floor()), last, holder));
        assert_eq!(answer.is_ok(), last >= floor && held, "{answer:?}");
        if answer.is_ok() {
            for at in first.max(floor)..=last {
                self.messages[at as usize].state = State::Held { holder, in_session: false };
            }
        }
    }

    /// The shard does one thing after the other: when this is answered, what was asked before is done.
    async fn is_done(&self) {
        let none = GroupName { group: "none".into(), ..group() };
        self.core.lease_forget(none, Some(vec![self.partition])).await.expect("forgets");
    }

    fn end_leases(&mut self, ended: impl Fn(&State) -> bool) {
        let over = self.messages.iter_mut().filter(|message| ended(&message.state));
        over.for_each(|message| message.state = State::Free);
    }

    async fn release(&mut self) {
        let holder = self.random.below(HOLDERS);
        let request = ReleaseRequest { group: group(), holder: name(holder), partitions: None };
        self.core.release(request).await.expect("releases");
        self.end_leases(|state| matches!(state, State::Held { holder: of, .. } if *of == holder));
    }

    async fn end_session(&mut self) {
        let holder = self.random.below(HOLDERS);
        let session = self.sessions[holder as usize];
        self.core.session_close(session).await.expect("closes");
        let request = self.request(holder, true, 1, Duration::ZERO);
        assert_eq!(self.core.acquire(request).await, [Err(LeaseError::UnknownSession)]);
        self.is_done().await;
        self.end_leases(|state| *state == State::Held { holder, in_session: true });
        self.sessions[holder as usize] = self.core.session_open(MINUTE * 10).await.expect("a session");
    }

    async fn seek(&mut self) {
        let floor = self.random.below(self.messages.len() as u64 + 1);
        let request = SeekRequest { group: group(), seeks: vec![(self.partition, SeekTo::Offset(floor))] };
        assert_eq!(self.core.lease_seek(request).await, [Ok(floor)]);
        self.uncounted_before = Uncounted::Known(0);
        for (at, message) in self.messages.iter_mut().enumerate() {
            let state = if (at as u64) < floor { State::Done } else { State::Free };
            *message = Message { acquisitions: 0, failures: 0, state };
        }
    }

    async fn discard(&mut self) {
        let messages_max = self.random.below(4);
        let start = SeekTo::At(OffsetAt::Earliest);
        let request = DiscardRequest { group: group(), partition: self.partition, start, messages_max };
        let discarded = self.core.discard(request).await.expect("discards");
        let free = self.messages.iter_mut().filter(|message| message.state == State::Free);
        let done = free.take(messages_max as usize).map(|message| message.state = State::Done).count();
        assert_eq!(discarded, done as u64);
    }

    /// Settles a message and appends others, at once.
    async fn transfer(&mut self) {
        let (holder, offset) = (self.random.below(HOLDERS), self.random.below(self.messages.len() as u64 + 1));
        let held = self.is_held(offset, offset, holder);
        match self.core.transfer(transfer_of(self.partition, holder, offset)).await {
            Ok(appended) => {
                assert!(held, "{offset} of {holder}");
                self.messages[offset as usize].settle(Settlement::Accept);
                self.appended(appended[0].base_offset, 2);
            }
            Err(TransferError::Settle { at: 0, .. }) => assert!(!held, "{offset} of {holder}"),
            Err(error) => panic!("{error}"),
        }
    }

    /// Somebody waits for messages, and gives up at the moment at which some come: nobody has them then.
    async fn leave_an_acquire(&mut self) {
        let (holder, in_session) = (self.random.below(HOLDERS), self.random.below(2) == 0);
        let credit = 1 + self.random.below(6);
        let request = self.request(holder, in_session, credit, MINUTE);
        let pause = Duration::from_micros(self.random.below(1500));
        let core = self.core.clone();
        let mut asking = Box::pin(async move { core.acquire(request).await });
        let before = tokio::time::timeout(Duration::from_micros(500), &mut asking).await;
        let answer = match before {
            Ok(answer) => Some(answer),
            Err(_) => {
                self.append().await;
                tokio::time::timeout(pause, &mut asking).await.ok()
            }
        };
        drop(asking);
        if let Some(answer) = answer {
            // It came in time after all: what is told is held.
            for range in &answer[0].as_ref().expect("acquires").ranges {
                for message in &mut self.messages[range.first as usize..=range.last as usize] {
                    assert_eq!(message.state, State::Free);
                    message.acquisitions += 1;
                    message.state = State::Held { holder, in_session };
                }
            }
        }
        let leased = self.messages.iter().filter(|message| matches!(message.state, State::Held { .. })).count() as u64;
        let view = within("what nobody waits for is given back", async {
            let mut agreed = 0;
            loop {
                let view = self.view().await.unwrap_or_default();
                agreed = if view.leased == leased { agreed + 1 } else { 0 };
                // Twice: what was under way when it was asked is over then.
                if agreed == 2 {
                    return view;
                }
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        })
        .await;
        // What was handed out, and given back, may be counted.
        for range in &view.ranges {
            for message in &mut self.messages[range.first as usize..=range.last as usize] {
                if message.state == State::Free && range.acquisitions == message.acquisitions + 1 {
                    message.acquisitions += 1;
                }
            }
        }
    }

    async fn view(&self) -> Option<LeaseView> {
        let request = PeekRequest { group: group(), partitions: Some(vec![self.partition]), ranges_max: 10_000 };
        self.core.peek(request).await.expect("peeks").remove(0).1
    }

    /// The map shows what the model says.
    async fn check(&self, place: &str) {
        let Some(view) = self.view().await else {
            let new = |message: &Message| message.acquisitions == 0 && message.state == State::Free;
            return assert!(self.messages.iter().all(new), "{place}: there is no map");
        };
        assert_eq!(view.end, self.messages.len() as u64, "{place}: nothing is lost, or there twice");
        let mut shown = BTreeMap::new();
        for range in &view.ranges {
            for offset in range.first..=range.last {
                shown.insert(offset, (range.state.clone(), range.acquisitions, range.failures));
            }
        }
        for (offset, message) in (0..).zip(&self.messages) {
            let what = format!("{place}: {offset} is {message:?}, and the map says {:?}", shown.get(&offset));
            match (shown.get(&offset), &message.state) {
                (None, State::Done) => assert!(offset < view.floor, "{what}"),
                (None, State::Free) => assert!(offset >= view.next && message.acquisitions == 0, "{what}"),
                (Some((RangeState::Settled, ..)), State::Done) => {}
                (Some((RangeState::Available, acquisitions, failures)), State::Free) => {
                    assert_eq!((*acquisitions, *failures), (message.acquisitions, message.failures), "{what}");
                }
                (Some((RangeState::Leased { holder: by }, acquisitions, failures)), State::Held { holder, .. }) => {
                    assert_eq!((*acquisitions, *failures), (message.acquisitions, message.failures), "{what}");
                    assert_eq!(*by, name(*holder), "{what}");
                }
                _ => panic!("{what}"),
            }
        }
    }

    /// Asks for something whose answer the blow may cut off.
    fn begin_something(&mut self) -> impl Future<Output = UnderWay> + Send + use<C> {
        let (core, partition) = (self.core.clone(), self.partition);
        let (kind, holder) = (self.random.below(4), self.random.below(HOLDERS));
        let held = (0..).zip(&self.messages).filter(|(_, message)| message.is_held_by(holder)).map(|(at, _)| at);
        let held: Vec<u64> = held.collect();
        let offset = if held.is_empty() { 0 } else { held[self.random.below(held.len() as u64) as usize] };
        let range = SettleRange::new(offset, offset, self.some_settlement());
        let acquire = self.request(holder, true, 5, Duration::ZERO);
        let asking = tokio::spawn(async move {
            match kind {
                0 => UnderWay::Append(3, append_one(&core, partition, batch(3, 0, b"content")).await),
                1 => {
                    let answer = ask_to_settle(&core, partition, holder, vec![range], true).await[0];
                    UnderWay::Settle { range, holder, answer }
                }
                2 => {
                    let answer = core.transfer(transfer_of(partition, holder, offset)).await;
                    UnderWay::Transfer { offset, holder, answer }
                }
                _ => {
                    core.acquire(acquire).await;
                    UnderWay::Acquire
                }
            }
        });
        async move { asking.await.expect("it asks") }
    }

    /// The core was killed and started again.
    async fn killed(&mut self, under_way: UnderWay) {
        let view = self.view().await;
        let is_settled = |offset: u64| {
            let Some(view) = &view else { return false };
            let covers = |range: &&RangeView| (range.first..=range.last).contains(&offset);
            offset < view.floor
                || view.ranges.iter().find(covers).is_some_and(|range| range.state == RangeState::Settled)
        };
        match under_way {
            // What got no answer was sent again, and is there once.
            UnderWay::Append(count, answer) => self.appended(answer.expect("appended").base_offset, count),
            UnderWay::Settle { range, holder, answer } => {
                let held = self.is_held(range.first, range.last, holder);
                assert!(held || answer.is_err());
                // Cut off, it is done or it is not; what is answered is done.
                let is_done = held
                    && match range.settlement {
                        Settlement::Accept | Settlement::Reject => is_settled(range.first),
                        _ => view.as_ref().is_some_and(|view| {
                            let before = &self.messages[range.first as usize];
                            let failures = before.failures + u32::from(range.settlement == Settlement::Fail);
                            let now = view.ranges.iter().find(|now| (now.first..=now.last).contains(&range.first));
                            now.is_some_and(|now| (now.acquisitions, now.failures) == (before.acquisitions, failures))
                        }),
                    };
                assert!(is_done || answer.is_err(), "a settle that was answered was taken back");
                if is_done {
                    self.messages[range.first as usize].settle(range.settlement);
                }
            }
            UnderWay::Transfer { offset, holder, answer } => match answer {
                Ok(appended) => {
                    assert!(self.is_held(offset, offset, holder));
                    self.messages[offset as usize].settle(Settlement::Accept);
                    self.appended(appended[0].base_offset, 2);
                }
                // It came to a core that had forgotten the lease, or it was not held before.
                Err(TransferError::Settle { at: 0, .. }) => {}
                Err(error) => panic!("{error}"),
            },
            UnderWay::Acquire => {}
        }
        // The leases are gone, as if they had never been. Under the sessions of before nothing can be leased.
        let mut held_before = 0;
        for (at, message) in (0..).zip(&mut self.messages) {
            if matches!(message.state, State::Held { .. }) {
                message.state = State::Free;
                message.acquisitions -= 1;
                held_before = at + 1;
            }
        }
        // All that was held may come to somebody who has it.
        self.uncounted_before = if view.is_some() { Uncounted::AtLeast(held_before) } else { Uncounted::Known(0) };
        for holder in 0..HOLDERS {
            let request = self.request(holder, true, 1, Duration::ZERO);
            assert_eq!(self.core.acquire(request).await, [Err(LeaseError::UnknownSession)]);
            assert_eq!(self.core.session_renew(self.sessions[holder as usize]).await, Ok(()), "its keys stay");
        }
        self.open_sessions().await;
    }
}

async fn ask_to_settle(
    core: &impl Core,
    partition: PartitionId,
    holder: u64,
    ranges: Vec<SettleRange>,
    durable: bool,
) -> Vec<Result<(), LeaseError>> {
    let request =
        SettleRequest { group: group(), holder: name(holder), partitions: vec![(partition, ranges)], durable };
    core.settle(request).await.remove(0)
}

fn transfer_of(partition: PartitionId, holder: u64, offset: u64) -> TransferRequest {
    let settles = vec![(partition, vec![SettleRange::new(offset, offset, Settlement::Accept)])];
    let appends = vec![Append { partition, batch: batch(2, 0, b"content") }];
    TransferRequest { group: group(), holder: name(holder), session: None, settles, appends }
}
