//! The whole process of `netpol list` over 10,000 pods in 1,000 workloads with 2,000 policies, and of `netpol can`.
//!
//! Prints wall time (median of five) and peak resident memory of the process.

#![expect(clippy::expect_used, clippy::indexing_slicing, reason = "a benchmark that cannot run panics")]

use std::fmt::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

fn manifests() -> String {
    let mut out = String::new();
    for ns in 0..50 {
        let _ = write!(
            out,
            "---\napiVersion: v1\nkind: Namespace\nmetadata:\n  name: team-{ns}\n  labels: {{tenant: t{}}}\n",
            ns % 10
        );
        for app in 0..20 {
            for replica in 0..10 {
                let address = format!("10.{ns}.{app}.{replica}");
                let _ = write!(
                    out,
                    "---\napiVersion: v1\nkind: Pod\nmetadata:\n  name: app-{app}-7d9c5b6f4-{replica}\n  namespace: team-{ns}\n  labels:\n    app: app-{app}\n    pod-template-hash: 7d9c5b6f4\n  ownerReferences:\n  - apiVersion: apps/v1\n    kind: ReplicaSet\n    name: app-{app}-7d9c5b6f4\n    controller: true\nspec:\n  nodeName: node-{}\n  containers:\n  - name: main\n    image: registry.example/app-{app}:1\n    ports:\n    - name: http\n      containerPort: 8080\nstatus:\n  phase: Running\n  podIP: {address}\n  podIPs:\n  - ip: {address}\n",
                    (app + replica) % 30
                );
            }
            let head = |name: &str| {
                format!(
                    "---\napiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata:\n  name: {name}-{app}\n  namespace: team-{ns}\nspec:\n  podSelector:\n    matchLabels:\n      app: app-{app}\n"
                )
            };
            let _ = write!(
                out,
                "{}  ingress:\n  - from:\n    - podSelector:\n        matchLabels:\n          app: app-{}\n    - namespaceSelector:\n        matchLabels:\n          tenant: t{}\n    ports:\n    - port: http\n",
                head("in"),
                (app + 1) % 20,
                ns % 10
            );
            let _ = write!(
                out,
                "{}  policyTypes: [Egress]\n  egress:\n  - to:\n    - namespaceSelector: {{}}\n    ports:\n    - port: 8080\n  - to:\n    - ipBlock:\n        cidr: 0.0.0.0/0\n        except: [10.0.0.0/8]\n    ports:\n    - port: 443\n",
                head("out")
            );
        }
    }
    out
}

/// Peak resident memory of the children of this process so far, in bytes.
fn peak_of(command: &mut Command) -> (Duration, u64, usize) {
    let start = Instant::now();
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("netpol starts");
    let status = format!("/proc/{}/status", child.id());
    let mut out = child.stdout.take().expect("a pipe");
    let reader = std::thread::spawn(move || std::io::copy(&mut out, &mut std::io::sink()).expect("readable"));
    let mut peak = 0;
    while child.try_wait().expect("a child").is_none() {
        let text = std::fs::read_to_string(&status).unwrap_or_default();
        let line = text.lines().find_map(|l| l.strip_prefix("VmHWM:")).unwrap_or("0");
        let kib: u64 = line.trim().trim_end_matches(" kB").parse().unwrap_or(0);
        peak = peak.max(kib * 1024);
        std::thread::sleep(Duration::from_millis(2));
    }
    let time = start.elapsed();
    (time, peak, usize::try_from(reader.join().expect("joined")).expect("small"))
}

fn main() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("cluster.yaml");
    let text = manifests();
    std::fs::write(&file, &text).expect("written");
    println!("input: 10000 pods in 1000 workloads, 50 namespaces, 2000 policies, {:.1} MB of YAML\n", text.len() as f64 / 1e6);
    println!("| command | wall time | peak resident | output |\n|---|---|---|---|");
    let netpol = Path::new(env!("CARGO_BIN_EXE_netpol"));
    let commands: [&[&str]; 3] = [&["list", "-o", "json"], &["can", "team-1/app-1", "team-2/app-2", "-p", "8080"], &["validate"]];
    for words in commands {
        let mut runs: Vec<_> = (0..5).map(|_| peak_of(Command::new(netpol).args(words).arg("-f").arg(&file))).collect();
        runs.sort();
        let (time, peak, bytes) = runs[2];
        println!(
            "| netpol {} | {:.2} s | {:.0} MB | {:.1} MB |",
            words.join(" "),
            time.as_secs_f64(),
            peak as f64 / 1e6,
            bytes as f64 / 1e6
        );
    }
}
