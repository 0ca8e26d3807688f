//! The live cluster as input.
//!
//! Only with the feature `cluster`, because the API client takes minutes to build.

use anyhow::Result;

use crate::args::ClusterArgs;

/// The name that a place in the live cluster has instead of a file.
pub(crate) const PLACE: &str = "the live cluster";

/// What a cluster holds.
pub(crate) struct Live {
    /// A `List` of all policy-relevant objects, one in each line.
    pub text: Vec<u8>,
    /// How many objects these are.
    pub objects: usize,
    /// The namespace that the kubeconfig's context names.
    pub namespace: String,
    /// What could not be read, and why.
    pub left_out: Vec<String>,
}

#[cfg(feature = "cluster")]
pub(crate) fn read(args: &ClusterArgs) -> Result<Live> {
    use anyhow::anyhow;
    use policy_core::manifest::is_foreign_policy;
    use policy_input::cluster::{Access, full_text, read};

    if let Some(error) = without_kubeconfig(args) {
        return Err(error);
    }
    let access = Access { kubeconfig: args.kubeconfig.clone(), context: args.context.clone() };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let config = access.config().await.map_err(|error| {
            anyhow!(full_text(&error)).context("no usable kubeconfig; use `--kubeconfig PATH` or `--context NAME`")
        })?;
        let (server, namespace) = (config.cluster_url.to_string(), config.default_namespace.clone());
        let read = async { anyhow::Ok(read::read(&kube::Client::try_from(config)?, &is_foreign_policy).await?) };
        let found = read
            .await
            .map_err(|error| anyhow!(full_text(error.as_ref())).context(format!("cannot read the cluster at {server}")))?;
        let mut text = b"{\"apiVersion\":\"v1\",\"kind\":\"List\",\"items\":[".to_vec();
        for (number, object) in found.objects.iter().enumerate() {
            text.extend(if number == 0 { &b"\n"[..] } else { &b",\n"[..] });
            serde_json::to_writer(&mut text, object)?;
        }
        text.extend(b"\n]}\n");
        Ok(Live { text, objects: found.objects.len(), namespace, left_out: found.left_out })
    })
}

/// The error where nothing says which cluster is meant: no kubeconfig, and no service account of a pod.
#[cfg(feature = "cluster")]
fn without_kubeconfig(args: &ClusterArgs) -> Option<anyhow::Error> {
    let is_set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    if args.kubeconfig.is_some() || is_set("KUBECONFIG") || is_set("KUBERNETES_SERVICE_HOST") {
        return None;
    }
    let path = std::env::home_dir()?.join(".kube/config");
    (!path.exists()).then(|| {
        anyhow::anyhow!(
            "there is no kubeconfig at `{}`; set KUBECONFIG, use `--kubeconfig PATH`, or read manifests with `-f PATH`",
            path.display()
        )
    })
}

#[cfg(not(feature = "cluster"))]
pub(crate) fn read(_: &ClusterArgs) -> Result<Live> {
    anyhow::bail!(
        "this netpol cannot read clusters, because it was built without the feature `cluster`; build it with `--features cluster`, \
         or pipe a dump: kubectl get ns,no,po,netpol -A -o yaml | netpol … -f -"
    )
}

impl Live {
    /// Which kinds are missing, in sentences.
    pub(crate) fn notes(&self) -> impl Iterator<Item = String> {
        self.left_out.iter().map(|missing| format!("cannot read {missing}; answers that depend on it may be wrong"))
    }
}
