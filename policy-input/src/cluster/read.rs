//! Reads a cluster once: every object that can change an answer, and of each only what can.
//!
//! What is read holds no Secrets, and nothing of what pods run: no images, commands, environment, volumes, annotations.

use http::Request;
use kube::Client;
use serde::de::DeserializeSeed;
use serde_json::Value;

use super::kinds::{self, KINDS, Need, SPECIFIED};
use super::object::complete;
use super::{FieldMask, Purpose, full_text};

/// Objects asked for at once, as kubectl does.
const PAGE: usize = 500;
/// The reason of a list that took too long: what comes next is forgotten.
const EXPIRED: u16 = 410;
const FORBIDDEN: u16 = 403;
const NOT_FOUND: u16 = 404;

/// A kind of objects, as it is asked for.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Resource {
    api_version: String,
    kind: String,
    plural: String,
}

/// What a cluster holds.
#[derive(Debug, Default)]
pub struct Objects {
    /// Whole objects with apiVersion and kind, cut down; by kind, and then in the order of the API server.
    pub objects: Vec<Value>,
    /// What could not be read, and why.
    pub left_out: Vec<String>,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// Whoever asks may not see what decides.
    #[error("may not list {kinds} of all namespaces: {message}")]
    Forbidden {
        /// The kind, in the plural.
        kinds: String,
        /// The error of the API server.
        message: String,
    },
    /// The API server does not answer, or not as it should.
    #[error("cannot list {kinds}")]
    Failed {
        /// The kind, in the plural.
        kinds: String,
        /// Why.
        source: Box<kube::Error>,
    },
}

impl Resource {
    fn new(api_version: &str, kind: &str, plural: &str) -> Self {
        Self { api_version: api_version.to_owned(), kind: kind.to_owned(), plural: plural.to_owned() }
    }
}

/// Reads everything. `is_foreign` decides whether a kind of this apiVersion holds policies of another engine, and is asked
/// about the group with an empty kind first.
///
/// Kinds are listed one after the other, so a change meanwhile may be seen in part.
///
/// # Errors
/// When namespaces, pods or policies cannot be listed.
pub async fn read(client: &Client, is_foreign: &dyn Fn(&str, &str) -> bool) -> Result<Objects, ReadError> {
    let mut out = Objects::default();
    for kind in KINDS {
        let plural = kind.plural;
        let resource = Resource::new(&kind.api_version(), kind.name, plural);
        match list(client, &resource, kind.fields).await {
            Ok(objects) => out.objects.extend(objects),
            Err(kube::Error::Api(status)) if status.code == NOT_FOUND && kind.read == Need::Optional => {}
            Err(error) if kind.read == Need::Optional => out.left_out.push(format!("{plural}: {}", full_text(&error))),
            Err(kube::Error::Api(status)) if status.code == FORBIDDEN => {
                return Err(ReadError::Forbidden { kinds: plural.to_owned(), message: status.message.clone() });
            }
            Err(source) => return Err(ReadError::Failed { kinds: plural.to_owned(), source: Box::new(source) }),
        }
    }
    match foreign(client, is_foreign).await {
        Ok(kinds) => {
            for resource in kinds {
                match list(client, &resource, SPECIFIED).await {
                    Ok(objects) => out.objects.extend(objects),
                    Err(error) => out.left_out.push(format!("{}: {}", resource.plural, full_text(&error))),
                }
            }
        }
        Err(error) => out.left_out.push(format!("policies of other engines: {}", full_text(&error))),
    }
    Ok(out)
}

async fn get(client: &Client, path: &str) -> Result<Value, kube::Error> {
    parse(&text(client, path).await?, FieldMask::Whole)
}

async fn text(client: &Client, path: &str) -> Result<String, kube::Error> {
    let request = Request::get(path).body(Vec::new()).map_err(kube::Error::HttpError)?;
    client.request_text(request).await
}

fn parse(text: &str, mask: FieldMask<'_>) -> Result<Value, kube::Error> {
    mask.parser(Purpose::Answer).deserialize(&mut serde_json::Deserializer::from_str(text)).map_err(kube::Error::SerdeError)
}

/// All objects of a kind, page by page.
async fn list(client: &Client, resource: &Resource, mask: FieldMask<'_>) -> Result<Vec<Value>, kube::Error> {
    let page_of = FieldMask::Fields(&[
        ("metadata", FieldMask::Fields(&[("continue", FieldMask::Whole)])),
        ("items", FieldMask::Elements(&mask)),
    ]);
    let path = kinds::path(&resource.api_version, &resource.plural);
    let mut objects = Vec::new();
    let mut query = format!("?limit={PAGE}");
    loop {
        let answer = match text(client, &format!("{path}{query}")).await {
            Err(kube::Error::Api(status)) if status.code == EXPIRED && !objects.is_empty() => {
                // The rest is not what it was when the list began: all of it at once, then.
                objects.clear();
                text(client, &path).await?
            }
            answer => answer?,
        };
        let mut page = parse(&answer, page_of)?;
        for mut object in page.pointer_mut("/items").and_then(Value::as_array_mut).map(std::mem::take).unwrap_or_default() {
            complete(&mut object, &resource.api_version, &resource.kind);
            objects.push(object);
        }
        match page.pointer("/metadata/continue").and_then(Value::as_str).filter(|token| !token.is_empty()) {
            // The token is of the letters that may stand in a query.
            Some(token) => query = format!("?limit={PAGE}&continue={token}"),
            None => return Ok(objects),
        }
    }
}

fn elements<'v>(value: &'v Value, field: &str) -> impl Iterator<Item = &'v Value> {
    value.get(field).and_then(Value::as_array).into_iter().flatten()
}

/// The kinds of policies of other engines that this API server has.
async fn foreign(client: &Client, is_foreign: &dyn Fn(&str, &str) -> bool) -> Result<Vec<Resource>, kube::Error> {
    let mut out = Vec::new();
    let groups = get(client, "/apis").await?;
    for group in elements(&groups, "groups") {
        let Some(version) =
            group.pointer("/preferredVersion/groupVersion").and_then(Value::as_str).filter(|version| is_foreign(version, ""))
        else {
            continue;
        };
        let resources = get(client, &format!("/apis/{version}")).await?;
        for resource in elements(&resources, "resources") {
            let word = |field: &str| resource.get(field).and_then(Value::as_str);
            if let (Some(kind), Some(plural)) = (word("kind"), word("name"))
                && !plural.contains('/')
                && is_foreign(version, kind)
            {
                out.push(Resource::new(version, kind, plural));
            }
        }
    }
    Ok(out)
}
