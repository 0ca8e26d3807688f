//! Container images without a registry.

use std::path::Path;
use std::process::Command;

use crate::Result;
use crate::programs::{Programs, run};

/// The image of sandboxes.
pub(crate) const PAUSE: &str = "localhost/pause:1";
/// The image that the pods of cyclonus ask for.
const WORKER: &str = "docker.io/mfenwick100/cyclonus-worker:latest";
/// The image of CoreDNS.
pub(crate) const COREDNS: &str = "localhost/coredns:1";

/// Packs the images of the cluster into archives in a folder.
pub(crate) fn pack(programs: &Programs, folder: &Path) -> Result<()> {
    std::fs::create_dir_all(folder)?;
    let agnhost = agnhost(programs)?;
    let pause = programs.cluster.join("pause");
    let coredns = programs.coredns.join("coredns");
    let server = programs.cluster.join("agnhost");
    let worker = programs.cyclonus.join("cyclonus");
    image(PAUSE, &[(&pause, "pause")], &[], &folder.join("pause.tar"))?;
    image(COREDNS, &[(&coredns, "coredns")], &[], &folder.join("coredns.tar"))?;
    image(&agnhost, &[(&server, "agnhost")], &["pause"], &folder.join("agnhost.tar"))?;
    image(WORKER, &[(&server, "agnhost"), (&worker, "worker")], &["pause"], &folder.join("worker.tar"))?;
    Ok(())
}

/// The name of the image that the pods of the suite ask for.
pub(crate) fn agnhost(programs: &Programs) -> Result<String> {
    let names = run(Command::new(programs.cluster.join("e2e.test")).arg("--list-images"))?;
    let version = |name: &&str| -> Vec<u32> {
        let tag = name.rsplit(':').next().unwrap_or_default();
        tag.split('.').filter_map(|part| part.parse().ok()).collect()
    };
    let newest = names.lines().filter(|name| name.contains("/agnhost:")).max_by_key(version);
    Ok(newest.ok_or("the suite names no image of agnhost")?.to_owned())
}

/// Packs programs, each under a name, as an image that runs the first of them.
fn image(name: &str, programs: &[(&Path, &str)], arguments: &[&str], archive: &Path) -> Result<()> {
    let work = tempfile::tempdir()?;
    let root = work.path().join("root");
    std::fs::create_dir_all(root.join("tmp"))?;
    for (program, file) in programs {
        std::fs::copy(program, root.join(file))?;
    }
    let file = programs.first().map(|(_, file)| *file).unwrap_or_default();
    let words = serde_json::to_string(arguments)?;
    let lines = format!("FROM scratch\nCOPY . /\nENTRYPOINT [\"/{file}\"]\nCMD {words}\n");
    let containerfile = work.path().join("Containerfile");
    std::fs::write(&containerfile, lines)?;
    let buildah = || {
        let mut command = Command::new("buildah");
        command.args(["--storage-driver", "vfs", "--root"]).arg(work.path().join("storage"));
        command.arg("--runroot").arg(work.path().join("runroot"));
        command
    };
    let build = ["build", "--quiet", "--isolation", "chroot", "--timestamp", "0", "--tag", name, "--file"];
    run(buildah().args(build).arg(containerfile).arg(&root))?;
    run(buildah().args(["push", "--quiet", name]).arg(format!("docker-archive:{}:{name}", archive.display())))?;
    Ok(())
}
