//! A real kube-apiserver with its etcd.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::Namespace;

/// The versions that can be built, newest first.
pub const VERSIONS: [&str; 2] = ["1.37", "1.35"];
/// Where it listens: the address of a network's outside, or that of a host.
pub const ADDRESS: &str = "198.18.0.2";
const PORT: u16 = 6443;
/// The users of the tests. Their groups are those that the deployment binds.
const USERS: [User<'static>; 4] = [
    User { file: "admin", name: "admin", group: "system:masters" },
    User { file: "agent", name: "system:serviceaccount:netpol:netpol", group: "" },
    User { file: "reporter", name: "system:serviceaccount:netpol:netpol-reporter", group: "" },
    User { file: "nobody", name: "nobody", group: "" },
];

/// Somebody who speaks to the API server, with a token.
#[derive(Clone, Copy)]
pub struct User<'a> {
    /// The name of the kubeconfig, without its ending.
    pub file: &'a str,
    /// The name for the API server.
    pub name: &'a str,
    /// The group, or an empty text.
    pub group: &'a str,
}

/// A control plane in a network namespace. It is killed when this goes, and its data with it.
pub struct ControlPlane {
    programs: PathBuf,
    folder: tempfile::TempDir,
    arguments: Vec<String>,
    etcd: Option<Child>,
    apiserver: Option<Child>,
    others: Vec<Child>,
}

/// The folder of what `conformance/tools/build` builds for a module.
///
/// # Panics
/// When it does not build.
#[must_use]
pub fn tool(module: &str) -> PathBuf {
    let build = Path::new(env!("CARGO_MANIFEST_DIR")).join("tools/build");
    let output = Command::new(build).arg(module).stderr(Stdio::inherit()).output().expect("bash runs");
    assert!(output.status.success(), "{module} does not build");
    PathBuf::from(String::from_utf8_lossy(&output.stdout).trim())
}

/// The folder with kube-apiserver, etcd and kubectl: `KUBEBUILDER_ASSETS`, or one that was built.
fn programs(version: &str) -> PathBuf {
    std::env::var_os("KUBEBUILDER_ASSETS").map_or_else(|| tool(&format!("kubernetes-{version}")), PathBuf::from)
}

impl ControlPlane {
    /// Starts etcd and an API server of this version in a namespace that has [`ADDRESS`], and waits until it is ready. `extra`
    /// are more arguments for the API server.
    ///
    /// # Panics
    /// When they do not start.
    #[must_use]
    pub fn start(version: &str, namespace: &Namespace, extra: &[&str]) -> Self {
        // Nobody makes service accounts and their tokens here.
        let arguments = ["--authorization-mode=RBAC", "--disable-admission-plugins=ServiceAccount,TaintNodesByCondition"];
        let arguments: Vec<&str> = arguments.iter().chain(extra).copied().collect();
        Self::with(programs(version), &USERS, &arguments, namespace)
    }

    /// Starts etcd and an API server of these programs for these users, and waits until it is ready.
    ///
    /// # Panics
    /// When they do not start.
    #[must_use]
    pub fn with(programs: PathBuf, users: &[User<'_>], arguments: &[&str], namespace: &Namespace) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let path = |name: &str| folder.path().join(name);
        let token = |user: &User<'_>| format!("the-token-of-{}", user.file);
        let row = |user: &User<'_>| format!("{},{},{},{}\n", token(user), user.name, user.file, user.group);
        std::fs::write(path("tokens.csv"), users.iter().map(row).collect::<String>()).expect("writable");
        let made = Command::new("openssl").args(["genrsa", "-out"]).arg(path("sa.key")).stderr(Stdio::null()).status();
        assert!(made.is_ok_and(|status| status.success()), "openssl makes no key");
        let arguments = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        let mut plane = Self { programs, folder, arguments, etcd: None, apiserver: None, others: Vec::new() };
        for user in users {
            std::fs::write(plane.kubeconfig(user.file), plane.kubeconfig_text(&token(user))).expect("writable");
        }
        plane.start_etcd(namespace);
        plane.start_apiserver(namespace);
        plane.wait_ready(namespace);
        plane
    }

    fn kubeconfig_text(&self, token: &str) -> String {
        format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: lab\n\
             clusters:\n- {{name: lab, cluster: {{server: 'https://{ADDRESS}:{PORT}', certificate-authority: '{}'}}}}\n\
             users:\n- {{name: me, user: {{token: {token}}}}}\ncontexts:\n- {{name: lab, context: {{cluster: lab, user: me}}}}\n",
            self.certificate().display()
        )
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The kubeconfig of a user.
    #[must_use]
    pub fn kubeconfig(&self, user: &str) -> PathBuf {
        self.path(&format!("{user}.conf"))
    }

    /// The key that signs the tokens of service accounts.
    #[must_use]
    pub fn signing_key(&self) -> PathBuf {
        self.path("sa.key")
    }

    /// The certificate of the API server, which signs itself.
    #[must_use]
    pub fn certificate(&self) -> PathBuf {
        self.path("certs/apiserver.crt")
    }

    /// The folder with the logs of the control plane.
    #[must_use]
    pub fn logs(&self) -> &Path {
        self.folder.path()
    }

    /// The kubeconfig of somebody who may do everything.
    #[must_use]
    pub fn admin(&self) -> PathBuf {
        self.kubeconfig("admin")
    }

    /// The kubeconfig of an agent, who may do what the deployment says.
    #[must_use]
    pub fn agent(&self) -> PathBuf {
        self.kubeconfig("agent")
    }

    /// The kubeconfig of the reporter, who may do what the deployment says.
    #[must_use]
    pub fn reporter(&self) -> PathBuf {
        self.kubeconfig("reporter")
    }

    /// The kubeconfig of somebody who may do nothing.
    #[must_use]
    pub fn nobody(&self) -> PathBuf {
        self.kubeconfig("nobody")
    }

    /// The folder of `kubectl`.
    #[must_use]
    pub fn programs(&self) -> &Path {
        &self.programs
    }

    /// A program of the control plane, which ends with this process, however that ends.
    fn program(&self, name: &str) -> Command {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL"]).arg(self.programs.join(name));
        command
    }

    fn spawn(&self, namespace: &Namespace, mut command: Command, log: &str) -> Child {
        let file = std::fs::OpenOptions::new().create(true).append(true).open(self.path(log)).expect("a log file");
        let errors = file.try_clone().expect("a log file");
        command.stdin(Stdio::null()).stdout(Stdio::from(file)).stderr(Stdio::from(errors)).process_group(0);
        namespace.run(move || command.spawn().expect("the program starts"))
    }

    /// Starts another program of the control plane, which is killed when this goes.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn start_program(&mut self, namespace: &Namespace, name: &str, arguments: &[String]) {
        let mut command = self.program(name);
        command.args(arguments).current_dir(self.folder.path());
        let child = self.spawn(namespace, command, &format!("{name}.log"));
        self.others.push(child);
    }

    /// Starts etcd, on the data that is there.
    pub fn start_etcd(&mut self, namespace: &Namespace) {
        let mut command = self.program("etcd");
        command.arg("--data-dir").arg(self.path("etcd")).args([
            "--listen-client-urls=http://127.0.0.1:2379",
            "--advertise-client-urls=http://127.0.0.1:2379",
            "--listen-peer-urls=http://127.0.0.1:2380",
            "--initial-advertise-peer-urls=http://127.0.0.1:2380",
            "--initial-cluster=default=http://127.0.0.1:2380",
            // The data is thrown away; a disk that is slow would only slow the tests.
            "--unsafe-no-fsync=true",
            "--log-level=warn",
        ]);
        self.etcd = Some(self.spawn(namespace, command, "etcd.log"));
    }

    /// Starts the API server.
    pub fn start_apiserver(&mut self, namespace: &Namespace) {
        let mut command = self.program("kube-apiserver");
        command.arg("--etcd-servers=http://127.0.0.1:2379");
        if !self.arguments.iter().any(|argument| argument.starts_with("--service-cluster-ip-range")) {
            command.arg("--service-cluster-ip-range=10.96.0.0/16");
        }
        command.args([format!("--bind-address={ADDRESS}"), format!("--secure-port={PORT}")]);
        command.args([format!("--advertise-address={ADDRESS}")]);
        command.arg("--cert-dir").arg(self.path("certs")).arg("--token-auth-file").arg(self.path("tokens.csv"));
        command.arg("--service-account-key-file").arg(self.signing_key());
        command.arg("--service-account-signing-key-file").arg(self.signing_key());
        command.args(["--service-account-issuer=https://lab", "--allow-privileged=true"]).args(&self.arguments);
        self.apiserver = Some(self.spawn(namespace, command, "apiserver.log"));
    }

    /// Waits until the API server answers that it is ready.
    ///
    /// # Panics
    /// When it does not get there in two minutes.
    pub fn wait_ready(&self, namespace: &Namespace) {
        let deadline = Instant::now() + Duration::from_secs(120);
        let config = self.admin();
        while !self.kubectl_in(namespace, &["get", "--raw", "/readyz"], &config).0 {
            assert!(Instant::now() < deadline, "the API server does not get ready: {}", self.log());
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// The last lines that the API server logged.
    #[must_use]
    pub fn log(&self) -> String {
        let text = std::fs::read_to_string(self.path("apiserver.log")).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines.get(lines.len().saturating_sub(20)..).unwrap_or_default().join("\n")
    }

    fn kubectl_in(&self, namespace: &Namespace, arguments: &[&str], config: &Path) -> (bool, String) {
        let mut command = Command::new(self.programs.join("kubectl"));
        command.arg("--kubeconfig").arg(config).args(arguments).stdin(Stdio::null());
        command.env("HOME", self.folder.path());
        let output = namespace.run(move || command.output().expect("kubectl runs"));
        (
            output.status.success(),
            format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr)),
        )
    }

    /// Runs kubectl as the admin, and returns what it prints.
    ///
    /// # Panics
    /// When it fails.
    pub fn kubectl(&self, namespace: &Namespace, arguments: &[&str]) -> String {
        let (is_good, text) = self.kubectl_in(namespace, arguments, &self.admin());
        assert!(is_good, "kubectl {arguments:?}: {text}");
        text
    }

    /// Forgets what happened before now, so that watches that are behind cannot go on.
    pub fn compact(&self, namespace: &Namespace) {
        // The revision of an answer, then a compaction up to it.
        let answer: serde_json::Value = serde_json::from_str(&ask_etcd(namespace, "range", r#"{"key":"AA=="}"#)).expect("JSON");
        let revision = answer["header"]["revision"].as_str().expect("a revision").to_owned();
        ask_etcd(namespace, "compaction", &format!(r#"{{"revision":"{revision}","physical":true}}"#));
    }

    /// Stores an object past the API server, as one of older rules may have left it.
    pub fn store(&self, namespace: &Namespace, key: &str, object: &serde_json::Value) {
        let base64 = |text: &str| namespace.command_with("openssl", &["base64", "-A"], text);
        let body = serde_json::json!({"key": base64(key), "value": base64(&object.to_string())});
        ask_etcd(namespace, "put", &body.to_string());
    }

    /// Kills the API server.
    pub fn kill_apiserver(&mut self) {
        end(&mut self.apiserver);
    }

    /// Kills etcd.
    pub fn kill_etcd(&mut self) {
        end(&mut self.etcd);
    }
}

/// Asks etcd through its HTTP gateway.
fn ask_etcd(namespace: &Namespace, path: &str, body: &str) -> String {
    let url = format!("http://127.0.0.1:2379/v3/kv/{path}");
    namespace.command("curl", &["-sS", "-X", "POST", &url, "-d", body])
}

fn end(child: &mut Option<Child>) {
    if let Some(mut child) = child.take() {
        let id = i32::try_from(child.id()).expect("a process id");
        let _ = kill(Pid::from_raw(id), Signal::SIGKILL);
        let _ = child.wait();
    }
}

impl Drop for ControlPlane {
    fn drop(&mut self) {
        for child in self.others.drain(..) {
            end(&mut Some(child));
        }
        end(&mut self.apiserver);
        end(&mut self.etcd);
    }
}
