//! How to reach the API server.

use std::path::PathBuf;

use kube::Config;
use kube::config::{InferConfigError, KubeConfigOptions, Kubeconfig, KubeconfigError};

/// Why it is not known how to reach the API server.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    /// The files of a kubeconfig are missing or wrong.
    #[error(transparent)]
    Kubeconfig(#[from] KubeconfigError),
    /// There is neither a kubeconfig nor a service account.
    #[error(transparent)]
    Infer(#[from] InferConfigError),
    /// No client can be made of the configuration.
    #[error(transparent)]
    Client(#[from] kube::Error),
}

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
    pub async fn config(&self) -> Result<Config, AccessError> {
        let options = KubeConfigOptions { context: self.context.clone(), ..KubeConfigOptions::default() };
        let config = match &self.kubeconfig {
            Some(path) => Config::from_custom_kubeconfig(Kubeconfig::read_from(path)?, &options).await?,
            None if self.context.is_some() => Config::from_kubeconfig(&options).await?,
            None => Config::infer().await?,
        };
        Ok(config)
    }
}
