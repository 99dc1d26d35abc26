//! The agent's image, written by the daemon itself: no registry, no builder, and the same bytes give the same id.

use bytes::Bytes;
use serde_json::json;
use sha2::{Digest, Sha256};
use tar::{Builder, EntryType, Header};

use super::harden::AGENT_PATH;

/// The repository of our image.
pub const REPOSITORY: &str = "agentbot/agent";

/// An image archive for [`super::Engine::load_image`].
#[derive(Clone, Debug)]
pub struct Archive {
    /// The archive.
    pub bytes: Bytes,
    /// The id an engine gives it, `sha256:…`: the digest of its config.
    pub image_id: String,
    /// `agentbot/agent:<version>`.
    pub reference: String,
}

/// Mount points and directories that a process expects; the root file system is read-only, so all must be there.
const DIRECTORIES: &[(&str, u32)] = &[
    ("dev/", 0o755),
    ("etc/", 0o755),
    ("proc/", 0o755),
    ("run/", 0o755),
    ("run/agentbot/", 0o755),
    ("sys/", 0o755),
    ("tmp/", 0o1777),
    ("workspace/", 0o755),
];

/// Writes the image that holds nothing but `binary`. `architecture` is `amd64` or `arm64`, as the engine names its own.
#[must_use]
pub fn agent_archive(binary: &[u8], version: &str, architecture: &str) -> Archive {
    let layer = layer(binary);
    let diff_id = format!("sha256:{}", sha256(&layer));
    let config = json!({
        "architecture": architecture,
        "os": "linux",
        "created": "1970-01-01T00:00:00Z",
        "config": { "Entrypoint": [AGENT_PATH] },
        "rootfs": { "type": "layers", "diff_ids": [diff_id] },
        "history": [{ "created": "1970-01-01T00:00:00Z", "created_by": "agentbotd" }],
    })
    .to_string();
    let digest = sha256(config.as_bytes());
    let config_name = format!("{digest}.json");
    let reference = format!("{REPOSITORY}:{version}");
    let manifest = json!([{ "Config": config_name, "RepoTags": [reference], "Layers": ["layer.tar"] }]).to_string();
    let bytes = tar(|archive| {
        file(archive, "manifest.json", manifest.as_bytes(), 0o644)?;
        file(archive, &config_name, config.as_bytes(), 0o644)?;
        file(archive, "layer.tar", &layer, 0o644)
    });
    Archive { bytes: bytes.into(), image_id: format!("sha256:{digest}"), reference }
}

fn layer(binary: &[u8]) -> Vec<u8> {
    tar(|layer| {
        for (path, mode) in DIRECTORIES {
            let mut header = header(EntryType::Directory, 0, *mode);
            layer.append_data(&mut header, path, std::io::empty())?;
        }
        file(layer, AGENT_PATH.trim_start_matches('/'), binary, 0o755)
    })
}

type Tar = Builder<Vec<u8>>;

#[allow(clippy::expect_used)]
fn tar(fill: impl FnOnce(&mut Tar) -> std::io::Result<()>) -> Vec<u8> {
    let mut builder = Builder::new(Vec::new());
    // The only writer is a Vec, which does not fail, and every path is a constant or a digest under 100 bytes.
    fill(&mut builder).and_then(|()| builder.into_inner()).expect("a tar in memory")
}

fn file(tar: &mut Tar, path: &str, content: &[u8], mode: u32) -> std::io::Result<()> {
    let mut header = header(EntryType::Regular, content.len() as u64, mode);
    tar.append_data(&mut header, path, content)
}

fn header(kind: EntryType, size: u64, mode: u32) -> Header {
    let mut header = Header::new_ustar();
    header.set_entry_type(kind);
    header.set_size(size);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header
}

fn sha256(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::io::Read;

    use super::*;

    fn entries(tar: &[u8]) -> BTreeMap<String, Vec<u8>> {
        let mut archive = tar::Archive::new(tar);
        let read = |entry: std::io::Result<tar::Entry<'_, _>>| {
            let mut entry = entry.unwrap();
            let mut content = Vec::new();
            entry.read_to_end(&mut content).unwrap();
            let header = entry.header();
            assert_eq!((header.uid().unwrap(), header.gid().unwrap(), header.mtime().unwrap()), (0, 0, 0));
            (entry.path().unwrap().display().to_string(), content)
        };
        archive.entries().unwrap().map(read).collect()
    }

    #[test]
    fn the_same_bytes_give_the_same_image() {
        let (one, two) = (agent_archive(b"agent", "1", "amd64"), agent_archive(b"agent", "1", "amd64"));
        assert_eq!(one.image_id, two.image_id);
        assert_eq!(one.bytes, two.bytes);
    }

    #[test]
    fn other_bytes_or_another_architecture_give_another_image_and_another_version_only_another_name() {
        let one = agent_archive(b"agent", "1", "amd64");
        assert_ne!(one.image_id, agent_archive(b"agenT", "1", "amd64").image_id);
        assert_ne!(one.image_id, agent_archive(b"agent", "1", "arm64").image_id);
        let next = agent_archive(b"agent", "2", "amd64");
        assert_eq!((next.image_id, next.reference.as_str()), (one.image_id, "agentbot/agent:2"));
    }

    #[test]
    fn the_manifest_names_a_config_that_names_the_layer() {
        let archive = agent_archive(b"agent", "1", "arm64");
        let parts = entries(&archive.bytes);
        let manifest: serde_json::Value = serde_json::from_slice(&parts["manifest.json"]).unwrap();
        let config = &parts[manifest[0]["Config"].as_str().unwrap()];
        assert_eq!(format!("sha256:{}", sha256(config)), archive.image_id);
        let config: serde_json::Value = serde_json::from_slice(config).unwrap();
        assert_eq!(config["architecture"], "arm64");
        assert_eq!(config["config"]["Entrypoint"][0], AGENT_PATH);
        let layer = &parts["layer.tar"];
        assert_eq!(config["rootfs"]["diff_ids"][0], format!("sha256:{}", sha256(layer)));
        let inside = entries(layer);
        assert_eq!(inside["agentbot-agent"], b"agent");
        assert!(["tmp/", "run/agentbot/", "workspace/", "proc/"].iter().all(|path| inside.contains_key(*path)));
    }
}
