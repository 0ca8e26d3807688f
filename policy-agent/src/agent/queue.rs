//! The queue between the enforcement thread and everything else.
//!
//! Each kind of event has a place of its own, and a bound: what loses when there is too much of it is decided here, kind by kind,
//! so that no kind can push another out. An update of objects is never lost: its source waits. Announcements of the kernel become "some
//! were lost", which is always right. Requests and questions are refused, and samples are dropped.

use std::collections::VecDeque;
use std::sync::mpsc::{Sender, SyncSender};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use netpol_cni::protocol::{Answer, Task};
use policy_ruleset::Element;

use crate::admin::status::Status;
use crate::chain::Unchained;
use crate::connections::{Judgement, LookResult, Tuple};
use crate::denials::explain::ChainExplanation;
use crate::denials::nflog::Sample;
use crate::interfaces::Interface;
use crate::source::SourceUpdate;

/// Updates that may wait; a source with more of them waits.
const MOST_NEWS: usize = 1024;
/// Generations that may wait; more count as lost announcements. Each part of a large transaction of ours is one.
const MOST_GENERATIONS: usize = 4096;
/// Requests of the CNI plugin that may wait. The kubelet starts a few hundred pods at once at the most.
const MOST_TASKS: usize = 1024;
/// Questions that may wait.
const MOST_QUESTIONS: usize = 16;
/// Samples of denied packets that may wait.
const MOST_SAMPLES: usize = 64;

/// An input of the loop.
pub enum Event {
    /// A source has news.
    SourceUpdate(SourceUpdate),
    /// A generation changed our table; `None` when announcements were lost.
    Touched(Option<u32>),
    /// A packet was denied.
    Denied(Sample),
    /// A question.
    Ask(Question),
    /// A request of the CNI plugin, and who asked.
    Sandbox(Task, Asker),
    /// The CNI plugin is in the node's chain, or why it is not.
    Chain(Result<(), Unchained>),
    /// Ends of pairs among the node's interfaces, when they are different from before.
    Interfaces(Vec<Interface>),
    /// Which of these tracked connections are to be cut: an answer for each of them, in order.
    Judge(Vec<Tuple>, SyncSender<Vec<Judgement>>),
    /// Remove those of these elements whose connection is allowed again: whether all of them are gone.
    Release(Vec<Element>, SyncSender<bool>),
    /// Remove these elements: their address has a new owner.
    Forget(Vec<Element>, SyncSender<()>),
    /// The connections of an order with a token have been looked at.
    Looked {
        /// The token of the order.
        token: u64,
        /// Why some connections may be left.
        result: LookResult,
    },
    /// Stop. The table stays in force (S3.12).
    Stop,
}

/// What can be asked, and where the answer goes.
pub enum Question {
    /// The status report of the agent.
    Status(Sender<Status>),
    /// The pods and policies behind a chain or a set of the table.
    Explain(String, Sender<ChainExplanation>),
}

/// Who made a request of the CNI plugin.
pub struct Asker {
    answer: Sender<Answer>,
    is_there: Box<dyn Fn() -> bool + Send>,
}

impl Asker {
    /// Where the answer goes, and whether anybody still waits for it.
    pub fn new(answer: Sender<Answer>, is_there: impl Fn() -> bool + Send + 'static) -> Self {
        Self { answer, is_there: Box::new(is_there) }
    }

    /// Whether it still waits. A plugin that was killed does not, and the runtime has torn its sandbox down, or is about to: what
    /// it asked for may come after the request to remove that sandbox.
    pub(crate) fn is_there(&self) -> bool {
        (self.is_there)()
    }

    pub(super) fn answer(self, answer: Answer) {
        // The plugin may have given up.
        let _ = self.answer.send(answer);
    }
}

/// A question that waits.
pub(super) struct Asked {
    pub(super) question: Question,
    pub(super) at: Instant,
}

/// A request of the thread for connections, and where the answer goes. It makes one at a time.
pub(super) enum Batch {
    Judge(Vec<Tuple>, SyncSender<Vec<Judgement>>),
    Release(Vec<Element>, SyncSender<bool>),
    Forget(Vec<Element>, SyncSender<()>),
}

#[derive(Default)]
struct Waiting {
    is_stopped: bool,
    /// No loop takes anything from here any more.
    is_closed: bool,
    generations: VecDeque<u32>,
    has_lost_generations: bool,
    tasks: VecDeque<(Task, Asker)>,
    news: VecDeque<SourceUpdate>,
    /// Whether the next of tasks and news is one of the tasks.
    is_task_next: bool,
    chain: Option<Result<(), Unchained>>,
    /// The last that was read.
    interfaces: Option<Vec<Interface>>,
    looked: VecDeque<(u64, LookResult)>,
    batches: VecDeque<Batch>,
    questions: VecDeque<Asked>,
    samples: VecDeque<Sample>,
    lost_samples: u64,
}

impl Waiting {
    fn is_empty(&self) -> bool {
        !self.is_stopped
            && self.generations.is_empty()
            && !self.has_lost_generations
            && self.tasks.is_empty()
            && self.news.is_empty()
            && self.chain.is_none()
            && self.interfaces.is_none()
            && self.looked.is_empty()
            && self.batches.is_empty()
            && self.questions.is_empty()
            && self.samples.is_empty()
    }

    /// The next event that may change what should be in force.
    fn take(&mut self) -> Option<Event> {
        if self.is_stopped {
            return Some(Event::Stop);
        }
        if std::mem::take(&mut self.has_lost_generations) {
            self.generations.clear();
            return Some(Event::Touched(None));
        }
        if let Some(generation) = self.generations.pop_front() {
            return Some(Event::Touched(Some(generation)));
        }
        if let Some((token, result)) = self.looked.pop_front() {
            return Some(Event::Looked { token, result });
        }
        if let Some(trouble) = self.chain.take() {
            return Some(Event::Chain(trouble));
        }
        // Before the sandboxes and the pods that they belong to.
        if let Some(seen) = self.interfaces.take() {
            return Some(Event::Interfaces(seen));
        }
        // In turns, so that neither kind keeps the other waiting.
        self.is_task_next = !self.is_task_next;
        let task = |waiting: &mut Self| waiting.tasks.pop_front().map(|(task, asker)| Event::Sandbox(task, asker));
        let news = |waiting: &mut Self| waiting.news.pop_front().map(Event::SourceUpdate);
        if self.is_task_next { task(self).or_else(|| news(self)) } else { news(self).or_else(|| task(self)) }
    }
}

#[derive(Default)]
struct Shared {
    waiting: Mutex<Waiting>,
    /// Something waits.
    something: Condvar,
    /// There is room for updates, or the receiver is gone.
    room: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why an event was not taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Refused {
    /// Too many of its kind wait.
    #[error("too many requests are waiting")]
    Full,
    /// The agent has stopped.
    #[error("the agent has stopped")]
    Stopped,
}

/// The end of the queue where events come in. Clones are the same queue.
#[derive(Clone)]
pub struct Mailbox {
    shared: Arc<Shared>,
}

/// The end of the queue that the loop has.
pub struct Inbox {
    shared: Arc<Shared>,
}

/// An empty queue.
#[must_use]
pub fn queue() -> (Mailbox, Inbox) {
    let shared = Arc::new(Shared::default());
    (Mailbox { shared: shared.clone() }, Inbox { shared })
}

impl Mailbox {
    /// Puts an event where the loop finds it. Only news makes the caller wait.
    ///
    /// # Errors
    /// When too many events of its kind wait, or the agent has stopped.
    pub fn send(&self, event: Event) -> Result<(), Refused> {
        let mut waiting = self.shared.lock();
        if matches!(event, Event::SourceUpdate(_)) {
            while waiting.news.len() >= MOST_NEWS && !waiting.is_closed {
                waiting = self.shared.room.wait(waiting).unwrap_or_else(PoisonError::into_inner);
            }
        }
        if waiting.is_closed {
            return Err(Refused::Stopped);
        }
        match event {
            Event::SourceUpdate(news) => waiting.news.push_back(news),
            Event::Touched(Some(generation)) if waiting.generations.len() < MOST_GENERATIONS => {
                waiting.generations.push_back(generation);
            }
            Event::Touched(_) => waiting.has_lost_generations = true,
            Event::Sandbox(..) if waiting.tasks.len() >= MOST_TASKS => return Err(Refused::Full),
            Event::Sandbox(task, asker) => waiting.tasks.push_back((task, asker)),
            Event::Chain(trouble) => waiting.chain = Some(trouble),
            Event::Judge(tuples, answer) => waiting.batches.push_back(Batch::Judge(tuples, answer)),
            Event::Release(held, answer) => waiting.batches.push_back(Batch::Release(held, answer)),
            Event::Forget(held, answer) => waiting.batches.push_back(Batch::Forget(held, answer)),
            Event::Interfaces(seen) => waiting.interfaces = Some(seen),
            Event::Looked { token, result } => waiting.looked.push_back((token, result)),
            Event::Ask(..) if waiting.questions.len() >= MOST_QUESTIONS => return Err(Refused::Full),
            Event::Ask(question) => waiting.questions.push_back(Asked { question, at: Instant::now() }),
            Event::Denied(_) if waiting.samples.len() >= MOST_SAMPLES => {
                waiting.lost_samples += 1;
                return Err(Refused::Full);
            }
            Event::Denied(sample) => waiting.samples.push_back(sample),
            Event::Stop => waiting.is_stopped = true,
        }
        drop(waiting);
        self.shared.something.notify_one();
        Ok(())
    }
}

impl Inbox {
    /// Waits until something is there, for at most `patience`.
    pub(super) fn wait(&self, patience: Duration) {
        let waiting = self.shared.lock();
        let is_idle = |waiting: &mut Waiting| waiting.is_empty();
        drop(self.shared.something.wait_timeout_while(waiting, patience, is_idle).unwrap_or_else(PoisonError::into_inner));
    }

    /// The next event that may change what should be in force: what asks for nothing but an answer is not among them.
    pub(super) fn take(&self) -> Option<Event> {
        let event = self.shared.lock().take();
        if matches!(event, Some(Event::SourceUpdate(_))) {
            self.shared.room.notify_all();
        }
        event
    }

    /// The next request of the thread for connections.
    pub(super) fn batch(&self) -> Option<Batch> {
        self.shared.lock().batches.pop_front()
    }

    /// The next question.
    pub(super) fn question(&self) -> Option<Asked> {
        self.shared.lock().questions.pop_front()
    }

    /// The next sample of a denied packet.
    pub(super) fn sample(&self) -> Option<Sample> {
        self.shared.lock().samples.pop_front()
    }

    /// How many samples were dropped since the last call.
    pub(super) fn lost_samples(&self) -> u64 {
        std::mem::take(&mut self.shared.lock().lost_samples)
    }
}

impl Drop for Inbox {
    fn drop(&mut self) {
        let mut waiting = self.shared.lock();
        *waiting = Waiting { is_closed: true, ..Waiting::default() };
        drop(waiting);
        self.shared.room.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    #[test]
    fn announcements_beyond_the_bound_count_as_lost() {
        let (mailbox, inbox) = queue();
        for generation in 0..10_000 {
            mailbox.send(Event::Touched(Some(generation))).unwrap();
        }
        assert!(matches!(inbox.take(), Some(Event::Touched(None))));
        assert!(inbox.take().is_none(), "those before are covered by it");
        mailbox.send(Event::Touched(Some(7))).unwrap();
        assert!(matches!(inbox.take(), Some(Event::Touched(Some(7)))));
    }

    #[test]
    fn a_kind_that_floods_is_refused_and_delays_no_other() {
        let (mailbox, inbox) = queue();
        let (answer, _answers) = channel();
        let (reply, _replies) = channel();
        let ask = || mailbox.send(Event::Ask(Question::Status(reply.clone())));
        assert_eq!((0..100).filter(|_| ask().is_err()).count(), 100 - MOST_QUESTIONS);
        let add = || mailbox.send(Event::Sandbox(Task::Status, Asker::new(answer.clone(), || true)));
        assert_eq!((0..2000).filter(|_| add().is_err()).count(), 2000 - MOST_TASKS);
        for _ in 0..3 {
            mailbox.send(Event::SourceUpdate(SourceUpdate::default())).unwrap();
        }
        let taken: Vec<bool> = (0..6).map(|_| matches!(inbox.take(), Some(Event::SourceUpdate(_)))).collect();
        assert_eq!(taken.iter().filter(|is_news| **is_news).count(), 3, "{taken:?}: in turns");
        mailbox.send(Event::Touched(None)).unwrap();
        assert!(matches!(inbox.take(), Some(Event::Touched(None))), "the kernel comes first");
        mailbox.send(Event::Stop).unwrap();
        assert!(matches!(inbox.take(), Some(Event::Stop)));
    }

    #[test]
    fn a_source_waits_for_room_and_loses_nothing() {
        let (mailbox, inbox) = queue();
        let source = std::thread::spawn(move || {
            (0..3 * MOST_NEWS).filter(|_| mailbox.send(Event::SourceUpdate(SourceUpdate::default())).is_ok()).count()
        });
        let mut taken = 0;
        while taken < 3 * MOST_NEWS {
            inbox.wait(Duration::from_secs(10));
            taken += std::iter::from_fn(|| inbox.take()).count();
        }
        assert_eq!(source.join().unwrap(), 3 * MOST_NEWS);
    }

    #[test]
    fn a_stopped_agent_takes_nothing_and_keeps_nobody_waiting() {
        let (mailbox, inbox) = queue();
        let (answer, answers) = channel();
        mailbox.send(Event::Ask(Question::Status(answer))).unwrap();
        let source = {
            let mailbox = mailbox.clone();
            std::thread::spawn(move || {
                std::iter::repeat_with(|| mailbox.send(Event::SourceUpdate(SourceUpdate::default()))).find_map(Result::err)
            })
        };
        drop(inbox);
        assert_eq!(source.join().unwrap(), Some(Refused::Stopped));
        assert!(answers.recv().is_err(), "the question is gone, and its answer with it");
    }
}
