//! What the environment asks for.

use std::path::PathBuf;

use crate::Result;

/// How kube-proxy works.
pub(crate) const PROXIES: [&str; 2] = ["nftables", "iptables"];

/// What is wanted of the cluster.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Wanted {
    /// The suite of Kubernetes.
    Suite,
    /// The cases of cyclonus.
    Cyclonus,
    /// What these do not try.
    Field,
    /// Some specs of the suite of Kubernetes without netpol: all of them must fail.
    Control,
    /// A shell.
    Shell,
}

/// What is asked for.
pub(crate) struct Settings {
    pub wanted: Wanted,
    /// The mode of kube-proxy, instead of each of them in turn.
    proxy: Option<String>,
    /// A regular expression of the names of specs; for cyclonus, the numbers of cases.
    pub focus: Option<String>,
    /// Specs that run at the same time.
    pub procs: u32,
    /// The folder for everything that is kept: logs and reports.
    pub folder: PathBuf,
    /// The archive with netpol's image.
    pub image: PathBuf,
    /// A cluster that is there, instead of one on this machine.
    pub kubeconfig: Option<PathBuf>,
    /// The command line.
    pub netpol: Option<PathBuf>,
}

impl Settings {
    pub(crate) fn of_environment() -> Result<Self> {
        let text = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let wanted = match (text("WAIT"), text("CONTROL"), text("SUITE").as_deref()) {
            (Some(_), None, None) => Wanted::Shell,
            (None, Some(_), None) => Wanted::Control,
            (None, None, None | Some("kubernetes")) => Wanted::Suite,
            (None, None, Some("cyclonus")) => Wanted::Cyclonus,
            (None, None, Some("field")) => Wanted::Field,
            (None, None, Some(other)) => return Err(format!("SUITE is `{other}`; expected kubernetes, cyclonus or field").into()),
            _ => return Err("ask for one of WAIT=1, CONTROL=1 and SUITE=…".into()),
        };
        let proxy = text("E2E_PROXY");
        if let Some(proxy) = proxy.as_ref().filter(|proxy| !PROXIES.contains(&proxy.as_str())) {
            return Err(format!("E2E_PROXY is `{proxy}`; expected one of {}", PROXIES.join(", ")).into());
        }
        let procs = match text("E2E_PROCS") {
            None => 4,
            Some(procs) => procs.parse().map_err(|_| format!("E2E_PROCS is `{procs}`; expected a number of specs"))?,
        };
        let path = |name: &str| text(name).map(PathBuf::from).ok_or_else(|| format!("{name} is not set; run `make e2e`"));
        let (netpol, kubeconfig) = (text("E2E_NETPOL").map(PathBuf::from), text("E2E_KUBECONFIG").map(PathBuf::from));
        if kubeconfig.is_some() && ![Wanted::Suite, Wanted::Cyclonus].contains(&wanted) {
            return Err("a cluster that is there can have the suite of Kubernetes and SUITE=cyclonus only".into());
        }
        let (focus, folder, image) = (text("E2E_FOCUS"), path("E2E_FOLDER")?, path("E2E_IMAGE")?);
        Ok(Self { wanted, proxy, focus, procs, folder, image, kubeconfig, netpol })
    }

    /// The modes of kube-proxy to run in, one after the other. The control and a shell need one.
    pub(crate) fn proxies(&self) -> Vec<&str> {
        match (&self.proxy, self.wanted) {
            (Some(proxy), _) => vec![proxy],
            (None, Wanted::Suite) => PROXIES.to_vec(),
            (None, _) => PROXIES.iter().take(1).copied().collect(),
        }
    }
}
