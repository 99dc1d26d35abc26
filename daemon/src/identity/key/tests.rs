use super::*;

fn key() -> DaemonKey {
    DaemonKey(Secret::new(std::array::from_fn(|index| u8::try_from(index).unwrap())))
}

fn slot() -> SlotId {
    "slt_01kak2m5v5e7qrf9v3n6m8t0zx".parse().unwrap()
}

#[test]
fn a_mark_fits_its_own_labels_only() {
    let (key, slot, other) = (key(), slot(), "slt_01kak2m5v5e7qrf9v3n6m8t0zy".parse().unwrap());
    let mac = key.label_mac("d0", "container", "ab-x-1", &slot, 1);
    assert!(key.verify_label_mac("d0", "container", "ab-x-1", &slot, 1, &mac));
    for (daemon, kind, name, slot, generation) in [
        ("d1", "container", "ab-x-1", &slot, 1),
        ("d0", "network", "ab-x-1", &slot, 1),
        ("d0", "container", "ab-x-2", &slot, 1),
        ("d0", "container", "ab-x-1", &other, 1),
        ("d0", "container", "ab-x-1", &slot, 2),
        // The same letters, divided otherwise.
        ("d0c", "ontainer", "ab-x-1", &slot, 1),
        ("d0", "containerab", "-x-1", &slot, 1),
    ] {
        assert!(!key.verify_label_mac(daemon, kind, name, slot, generation, &mac), "{daemon} {kind} {name}");
    }
    for wrong in ["", "zz", &mac[..62], &format!("{mac}00")] {
        assert!(!key.verify_label_mac("d0", "container", "ab-x-1", &slot, 1, wrong), "{wrong}");
    }
    let stranger = DaemonKey(Secret::new([9; KEY_BYTES]));
    assert!(!stranger.verify_label_mac("d0", "container", "ab-x-1", &slot, 1, &mac));
}

/// Computed apart from this code, with the HMAC of another language. A change here disowns every running agent.
#[test]
fn what_is_derived_stays_as_it_was() {
    let (key, slot) = (key(), slot());
    let instance = "ins_01kak2m5v5e7qrf9v3n6m8t0zx".parse().unwrap();
    assert_eq!(
        key.label_mac("d0", "container", "ab-x-1", &slot, 1),
        "5137276c41bd8bdc32d0eafd8ddb783be2da3f42b80dd490c6fed617696bcb6a"
    );
    assert_eq!(key.slot_nonce(&slot).expose(), "37afc305de77ce693c9ab13687cf493c502efcf0fe4b5f38d776a3904aa55f4a");
    assert_eq!(
        key.gateway_token(&instance, &[1; SALT_BYTES]).expose(),
        "5b9b029154336ad8769c59febcd061884e3f0b717f10dbace51014b132695609"
    );
}

#[test]
fn a_token_changes_with_salt_instance_and_purpose() {
    let key = key();
    let first: InstanceId = "ins_01kak2m5v5e7qrf9v3n6m8t0zx".parse().unwrap();
    let second: InstanceId = "ins_01kak2m5v5e7qrf9v3n6m8t0zy".parse().unwrap();
    let token = |instance, salt| key.gateway_token(instance, &[salt; SALT_BYTES]).expose().clone();
    assert_eq!(token(&first, 1), token(&first, 1));
    let all = [token(&first, 1), token(&first, 2), token(&second, 1), key.slot_nonce(&slot()).expose().clone()];
    for (index, value) in all.iter().enumerate() {
        assert!(value.len() == 64 && value.bytes().all(|byte| b"0123456789abcdef".contains(&byte)), "{value}");
        assert!(!all[..index].contains(value));
    }
    assert_ne!(new_salt().unwrap(), new_salt().unwrap());
}

#[test]
fn a_key_is_made_once_private_and_whole() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("key");
    fs::write(dir.path().join("key.new"), "half of an earlier attempt").unwrap();
    let made = DaemonKey::load_or_create(&path, true).unwrap();
    let found = fs::metadata(&path).unwrap();
    assert_eq!((found.len(), found.mode() & 0o777), (32, 0o600));
    let again = DaemonKey::load_or_create(&path, false).unwrap();
    assert_eq!(made.0.expose(), again.0.expose());
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    assert!(!format!("{made:?}").contains(&hex::encode(&made.0.expose()[..2])));
}

#[test]
fn a_missing_key_is_not_replaced_when_agents_depend_on_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("key");
    let error = DaemonKey::load_or_create(&path, false).unwrap_err();
    assert!(error.to_api().hint.unwrap().contains("restore the key file"));
    assert!(!path.exists());
}

#[test]
fn an_open_key_is_tightened() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("key");
    fs::write(&path, [7; KEY_BYTES]).unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
    DaemonKey::load_or_create(&path, false).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
}

#[test]
fn a_key_of_another_size_owner_or_kind_is_refused_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("key");
    for size in [0, KEY_BYTES - 1, KEY_BYTES + 1] {
        fs::write(&path, vec![7; size]).unwrap();
        let error = DaemonKey::load_or_create(&path, true).unwrap_err();
        assert!(error.message().contains(&format!("has {size} bytes")), "{error}");
        assert_eq!(fs::read(&path).unwrap().len(), size);
    }
    fs::write(&path, [7; KEY_BYTES]).unwrap();
    if nix::unistd::geteuid().is_root() {
        std::os::unix::fs::chown(&path, Some(12345), None).unwrap();
        assert!(DaemonKey::load_or_create(&path, true).unwrap_err().message().contains("another user"));
    }
    fs::rename(&path, dir.path().join("elsewhere")).unwrap();
    std::os::unix::fs::symlink(dir.path().join("elsewhere"), &path).unwrap();
    assert!(DaemonKey::load_or_create(&path, true).is_err());
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    assert!(DaemonKey::load_or_create(&path, true).unwrap_err().message().contains("not a file"));
}
