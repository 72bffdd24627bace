//! The groups of works that peers are timed on. Adding a group is adding a row, an example and scripts.

/// A group: what is compared, and by which programs.
pub(super) struct Group {
    pub(super) name: &'static str,
    pub(super) about: &'static str,
    /// Example of the `benches` crate that runs our side, and Rust peers if there are any.
    pub(super) ours: &'static str,
    /// Scripts of peers.
    pub(super) peers: &'static [Peers],
}

/// Scripts that share an environment.
pub(super) struct Peers {
    /// File in `xtask/peers` with the pinned packages the scripts need.
    pub(super) requirements: &'static str,
    /// Scripts in `xtask/peers`, one process each.
    pub(super) scripts: &'static [&'static str],
}

const fn of(requirements: &'static str, scripts: &'static [&'static str]) -> Peers {
    Peers { requirements, scripts }
}

#[rustfmt::skip]
pub(super) const GROUPS: &[Group] = &[
    Group { name: "kernels", about: "matrix products and convolutions, one by one", ours: "peers_kernels",
        peers: &[of("kernels.txt", &["onnxruntime_kernels.py", "litert_kernels.py"]),
            of("train.txt", &["torch_kernels.py"])] },
    Group { name: "train", about: "training steps and inference of a whole CNN", ours: "peers_train",
        peers: &[of("train.txt", &["torch_train.py", "onnxruntime_train.py"]),
            of("qkeras.txt", &["qkeras_train.py"])] },
    Group { name: "deploy", about: "inference of whole networks with 8-bit activations, batch 1", ours: "peers_deploy",
        peers: &[of("deploy.txt", &["litert_deploy.py"])] },
    Group { name: "attacks", about: "PGD, Square and AutoAttack on MLPerf Tiny's ResNet", ours: "peers_attacks",
        peers: &[of("attacks.txt", &["torch_attacks.py", "torch_autoattack.py"])] },
];

#[cfg(test)]
mod tests {
    use super::GROUPS;
    use crate::workspace;

    #[test]
    fn what_groups_name_exists_and_is_pinned() {
        let scripts = workspace::root().join("xtask/peers");
        for group in GROUPS {
            assert!(workspace::root().join(format!("benches/examples/{}.rs", group.ours)).is_file());
            for peers in group.peers {
                for script in peers.scripts {
                    assert!(scripts.join(script).is_file(), "{script}");
                }
                let pins = std::fs::read_to_string(scripts.join(peers.requirements)).unwrap();
                for line in pins.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
                    assert!(line.contains("==") || line.starts_with("--"), "{line} is not pinned");
                }
            }
        }
    }
}
