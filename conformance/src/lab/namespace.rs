//! One network namespace, and work to be done in it.

use std::process::{Command, Stdio};
use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;

use nix::sched::{CloneFlags, unshare};
use nix::unistd::{Pid, gettid};

type Job = Box<dyn FnOnce() + Send>;

/// A network namespace that belongs to one thread.
pub struct Namespace {
    name: String,
    jobs: Option<Sender<Job>>,
    thread: Option<JoinHandle<()>>,
    id: Pid,
}

impl Namespace {
    /// A new namespace with nothing but a loopback interface, which is up. The name is for messages.
    ///
    /// # Panics
    /// When the system refuses.
    #[must_use]
    pub fn new(name: &str) -> Self {
        let (jobs, work) = channel::<Job>();
        let (tell, told) = channel();
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn(move || {
            let _ = tell.send(unshare(CloneFlags::CLONE_NEWNET).map(|()| gettid()));
            for job in work {
                job();
            }
        });
        let id = told.recv().expect("the thread answers").expect("root may make network namespaces");
        let namespace =
            Self { name: name.to_owned(), jobs: Some(jobs), thread: Some(thread.expect("the system has a thread left")), id };
        namespace.command("ip", &["link", "set", "lo", "up"]);
        namespace
    }

    /// The name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The thread, by which `ip link … netns` finds the namespace.
    #[must_use]
    pub fn id(&self) -> Pid {
        self.id
    }

    /// Starts work in the namespace and returns where its result will come.
    pub fn start<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> std::sync::mpsc::Receiver<T> {
        let (tell, told) = channel();
        let job = Box::new(move || {
            let _ = tell.send(work());
        });
        self.jobs.as_ref().expect("present until dropped").send(job).expect("the thread lives as long as the namespace");
        told
    }

    /// Does work in the namespace in a thread of its own.
    pub fn spawn<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
        // A new thread is in the namespace of the one that starts it.
        self.run(move || std::thread::spawn(work))
    }

    /// Does work in the namespace.
    ///
    /// # Panics
    /// When the work does.
    pub fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        self.start(work).recv().unwrap_or_else(|_| panic!("work in the namespace of {} failed", self.name))
    }

    /// Runs a command in the namespace with this standard input, and returns what it prints.
    ///
    /// # Panics
    /// When it fails.
    pub fn command_with(&self, program: &str, arguments: &[&str], input: &str) -> String {
        let (program, input) = (program.to_owned(), input.to_owned());
        let arguments: Vec<String> = arguments.iter().map(|a| (*a).to_owned()).collect();
        let name = self.name.clone();
        self.run(move || {
            use std::io::Write;
            let mut command = Command::new(&program);
            command.args(&arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
            let mut child = command.spawn().unwrap_or_else(|e| panic!("cannot run {program}: {e}"));
            let mut stdin = child.stdin.take().expect("piped");
            let writer = std::thread::spawn(move || stdin.write_all(input.as_bytes()));
            let output = child.wait_with_output().expect("it was started");
            let _ = writer.join();
            assert!(
                output.status.success(),
                "{program} {arguments:?} in {name}: {}",
                String::from_utf8_lossy(&output.stderr).chars().take(2000).collect::<String>()
            );
            String::from_utf8_lossy(&output.stdout).into_owned()
        })
    }

    /// Runs a command in the namespace and returns what it prints.
    ///
    /// # Panics
    /// When it fails.
    pub fn command(&self, program: &str, arguments: &[&str]) -> String {
        self.command_with(program, arguments, "")
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
