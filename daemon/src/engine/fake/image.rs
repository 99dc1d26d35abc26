//! Reads an image archive as far as an engine looks at it.

use std::collections::BTreeMap;
use std::io::Read;

use agentbot_wire::Code;
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::error::{Error, Result};

pub(super) struct Image {
    pub(super) id: String,
    pub(super) references: Vec<String>,
}

/// # Errors
/// `engine_refused` when it is no image archive, or its parts do not fit together.
pub(super) fn read(archive: &[u8]) -> Result<Image> {
    parts(archive).ok().and_then(|parts| image(&parts)).ok_or_else(|| {
        Error::new(Code::EngineRefused, "the engine refused `load`: this is no image archive")
            .hint("it wants manifest.json, a config and its layers")
    })
}

fn parts(archive: &[u8]) -> std::io::Result<BTreeMap<String, Vec<u8>>> {
    let mut parts = BTreeMap::new();
    for entry in tar::Archive::new(archive).entries()? {
        let mut entry = entry?;
        let mut content = Vec::new();
        entry.read_to_end(&mut content)?;
        parts.insert(entry.path()?.display().to_string(), content);
    }
    Ok(parts)
}

fn image(parts: &BTreeMap<String, Vec<u8>>) -> Option<Image> {
    let manifest: Value = serde_json::from_slice(parts.get("manifest.json")?).ok()?;
    let config = parts.get(manifest[0]["Config"].as_str()?)?;
    let diff_ids: Value = serde_json::from_slice::<Value>(config).ok()?["rootfs"]["diff_ids"].take();
    let layers = manifest[0]["Layers"].as_array()?;
    let whole = layers.iter().zip(diff_ids.as_array()?).all(|(layer, diff_id)| {
        let layer = layer.as_str().and_then(|layer| parts.get(layer));
        layer.is_some_and(|layer| *diff_id == digest(layer))
    });
    let references = manifest[0]["RepoTags"].as_array()?.iter().filter_map(|tag| Some(tag.as_str()?.to_owned()));
    whole.then(|| Image { id: digest(config), references: references.collect() })
}

fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", hex::encode(Sha256::digest(bytes)))
}
