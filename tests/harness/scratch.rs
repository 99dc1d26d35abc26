//! Containers and images that a story makes by hand: somebody else's, as far as the daemon is concerned.

use std::path::Path;
use std::sync::Mutex;

use bytes::Bytes;
use serde_json::{Value, json};

use super::engine::{Engine, VERSION};
use super::http::{self, Call};

/// Makes foreign containers and images, and removes them all when it is dropped.
#[derive(Debug)]
pub struct Scratch {
    engine: Engine,
    made: Mutex<Made>,
}

#[derive(Debug, Default)]
struct Made {
    containers: Vec<String>,
    images: Vec<String>,
}

impl Scratch {
    /// For foreign objects on this engine.
    #[must_use]
    pub fn on(engine: &Engine) -> Self {
        Self { engine: engine.clone(), made: Mutex::default() }
    }

    /// A name that no other story uses.
    #[must_use]
    pub fn name(word: &str) -> String {
        format!("abtest-{word}-{}", std::process::id())
    }

    /// What a container of one imported program is made from.
    #[must_use]
    pub fn program(image: &str) -> Value {
        json!({ "Image": image, "Entrypoint": ["/program"], "HostConfig": { "NetworkMode": "none" } })
    }

    /// Creates a container as given and gives its id.
    ///
    /// # Panics
    /// When the engine will not.
    pub async fn create(&self, name: &str, body: &Value) -> String {
        let reply = self.engine.call("POST", &format!("/containers/create?name={name}"), Some(body), &[201]).await;
        let id = reply.value()["Id"].as_str().expect("a created container has an id").to_owned();
        self.made.lock().expect("no panic while held").containers.push(id.clone());
        id
    }

    /// Makes an image of one program, as `/program`, and gives the image's id.
    ///
    /// # Panics
    /// When the engine will not.
    pub async fn import(&self, reference: &str, program: &Path) -> String {
        self.import_as(reference, program, "program").await
    }

    /// Makes an image of one program under this name in the root directory, and gives the image's id.
    ///
    /// # Panics
    /// When the engine will not.
    pub async fn import_as(&self, reference: &str, program: &Path, name: &str) -> String {
        self.import_changed(reference, program, name, &[]).await
    }

    /// The same with Dockerfile instructions applied, such as `VOLUME /data`.
    ///
    /// # Panics
    /// When the engine will not.
    pub async fn import_changed(&self, reference: &str, program: &Path, name: &str, changes: &[&str]) -> String {
        let mut archive = tar::Builder::new(Vec::new());
        archive.append_path_with_name(program, name).expect("the program can be read");
        let archive = archive.into_inner().expect("an archive in memory");
        let (repository, tag) = reference.split_once(':').expect("repository:tag");
        let changes: String = changes.iter().map(|change| format!("&changes={}", change.replace(' ', "%20"))).collect();
        let path = format!("{VERSION}/images/create?fromSrc=-&repo={repository}&tag={tag}{changes}");
        let call = Call::post(path).body("application/x-tar", Bytes::from(archive));
        let reply = http::send(self.engine.socket(), call).await.expect("the engine answers").expect(200);
        self.made.lock().expect("no panic while held").images.push(reference.to_owned());
        let last = String::from_utf8_lossy(&reply.body).lines().last().unwrap_or_default().to_owned();
        let status: Value = serde_json::from_str(&last).expect("an import answers in JSON lines");
        status["status"].as_str().filter(|id| id.starts_with("sha256:")).expect("an import ends in an id").to_owned()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let made = std::mem::take(&mut *self.made.lock().expect("no panic while held"));
        let engine = &self.engine;
        // Dropping cannot wait for futures, and this thread may be driving some: another one does it.
        let removed = std::thread::scope(|scope| {
            let remove = || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
                runtime.block_on(async {
                    for id in &made.containers {
                        engine.remove(id).await;
                    }
                    for reference in &made.images {
                        engine.remove_image(reference).await;
                    }
                });
            };
            scope.spawn(remove).join()
        });
        if removed.is_err() {
            eprintln!("left on the engine: {made:?}");
        }
    }
}
