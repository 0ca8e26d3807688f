//! How to reach the API server.

use std::path::PathBuf;

use kube::Config;
use kube::config::{KubeConfigOptions, Kubeconfig};

/// Where the API server is, and who asks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Access {
    /// A kubeconfig; without one, the service account of the pod, or `KUBECONFIG`.
    pub kubeconfig: Option<PathBuf>,
    /// The context in it; without one, its current one.
    pub context: Option<String>,
}

impl Access {
    /// The address of the API server and how to prove who is asking.
    ///
    /// # Errors
    /// When the files of a kubeconfig or of a service account are missing or wrong.
    pub async fn config(&self) -> Result<Config, Box<dyn std::error::Error + Send + Sync>> {
        let options = KubeConfigOptions { context: self.context.clone(), ..KubeConfigOptions::default() };
        let config = match &self.kubeconfig {
            Some(path) => Config::from_custom_kubeconfig(Kubeconfig::read_from(path)?, &options).await?,
            None if self.context.is_some() => Config::from_kubeconfig(&options).await?,
            None => Config::infer().await?,
        };
        Ok(config)
    }
}
