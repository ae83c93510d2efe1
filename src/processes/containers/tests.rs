use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown, symlink};

use rustix::fs::{CWD, FileType, Mode, mknodat};
use rustix::process::geteuid;

use super::*;

const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
const OTHER: &str = "fedcba9876543210fedcba9876543210fedcba9876543210fedcba9876543210";
const SHOWN: &str = "0123456789ab";
const POD: &str = "0b3a2c1d-4e5f-6789-abcd-ef0123456789";

/// Makes a file of a runtime.
type Made<'a> = &'a dyn Fn() -> PathBuf;

/// The root directory of a host.
struct Host(PathBuf);

impl Host {
    fn new(name: &str) -> Host {
        let name = format!("bwmon-containers-{}-{name}", std::process::id());
        let host = Host(std::env::temp_dir().join(name));
        fs::create_dir_all(&host.0).unwrap();
        host
    }

    /// The path of an entry whose directory is there, and writable by its owner alone.
    fn path(&self, path: &str) -> PathBuf {
        let path = self.0.join(path);
        let directory = path.parent().unwrap();
        fs::create_dir_all(directory).unwrap();
        fs::set_permissions(directory, Permissions::from_mode(0o755)).unwrap();
        path
    }

    fn write(&self, path: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(path);
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        path
    }

    /// Docker's file about a container, as far as it matters.
    fn docker(&self, id: &str, name: &str) -> PathBuf {
        let json = format!(r#"{{"StreamConfig":{{}},"ID":"{id}","Name":"{name}","Driver":"x"}}"#);
        self.write(&docker(id), json)
    }

    fn storage(&self, list: usize, id: &str, names: &str) -> PathBuf {
        let json = format!(
            r#"[{{"id":"{OTHER}","image":"x"}},{{"id":"{id}","names":{names},"layer":"x"}}]"#
        );
        self.write(STORAGE[list], json)
    }

    /// The kubelet's link to a log. The log itself need not be there.
    fn log(&self, name: &str) {
        symlink("../pods/x/0.log", self.path(&format!("{LOGS}/{name}"))).unwrap();
    }

    fn containers(&self) -> Containers {
        Containers::of_root(self.0.clone())
    }

    /// The container of a process in this cgroup, with nothing remembered.
    fn of(&self, cgroup: &str) -> Option<String> {
        of(&mut self.containers(), cgroup, Instant::now())
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn docker(id: &str) -> String {
    format!("{DOCKER}/{id}/config.v2.json")
}

fn of(containers: &mut Containers, cgroup: &str, now: Instant) -> Option<String> {
    let name = containers.of(cgroup.as_bytes(), now);
    name.map(|name| String::from_utf8(name).unwrap())
}

/// The cgroup of version 2 and those of version 1 of a process in this path.
fn both(path: &str) -> [String; 2] {
    [format!("0::{path}\n"), format!("5:memory:{path}\n2:cpu:{path}\n1:name=systemd:{path}\n")]
}

#[test]
fn docker_s_container() {
    let host = Host::new("docker");
    host.docker(ID, "/web");
    for path in [format!("/system.slice/docker-{ID}.scope"), format!("/docker/{ID}/init.scope")] {
        for cgroup in both(&path) {
            assert_eq!(host.of(&cgroup).as_deref(), Some("web"), "{cgroup}");
        }
    }
    assert_eq!(host.of(&format!("0::/docker/{OTHER}\n")).as_deref(), Some("fedcba987654"));
    // cri-dockerd runs Kubernetes' containers.
    host.docker(ID, &format!("/k8s_proxy_web-abc_default_{POD}_0"));
    let cgroup = format!("0::/kubepods/besteffort/pod{POD}/{ID}\n");
    assert_eq!(host.of(&cgroup).as_deref(), Some("proxy"));
}

#[test]
fn podman_s_container() {
    for list in 0..STORAGE.len() {
        let host = Host::new(&format!("podman-{list}"));
        host.storage(list, ID, r#"["web","another"]"#);
        for path in [
            format!("/machine.slice/libpod-{ID}.scope/container"),
            // Of a unit, with --cgroups=split.
            format!("/system.slice/web.service/libpod-payload-{ID}"),
        ] {
            for cgroup in both(&path) {
                assert_eq!(host.of(&cgroup).as_deref(), Some("web"), "{cgroup}");
            }
        }
        for names in ["[]", "null"] {
            host.storage(list, ID, names);
            let cgroup = format!("0::/machine.slice/libpod-{ID}.scope\n");
            assert_eq!(host.of(&cgroup).as_deref(), Some(SHOWN), "{names}");
        }
    }
}

#[test]
fn kubernetes_containers() {
    let slice = POD.replace('-', "_");
    let below = format!("kubepods-burstable.slice/kubepods-burstable-pod{slice}.slice");
    // A pod in the host's network has cgroups like any other.
    for pod in ["web-5d8f-x2", "kube-proxy-node1"] {
        let logged = Host::new(&format!("log-{pod}"));
        logged.log(&format!("{pod}_kube-system_proxy-2-{ID}.log"));
        logged.log(&format!("{pod}_kube-system_other-{OTHER}.log"));
        let stored = Host::new(&format!("stored-{pod}"));
        let names = format!(r#"["k8s_proxy-2_{pod}_kube-system_{POD}_0"]"#);
        stored.storage(0, ID, &names);
        for path in [
            format!("/kubepods.slice/{below}/cri-containerd-{ID}.scope"),
            format!("/kubepods.slice/{below}/crio-{ID}.scope/container"),
            format!("/kubepods/burstable/pod{POD}/{ID}"),
        ] {
            for cgroup in both(&path) {
                for host in [&logged, &stored] {
                    assert_eq!(host.of(&cgroup).as_deref(), Some("proxy-2"), "{cgroup}");
                }
            }
        }
    }
}

#[test]
fn the_path_has_the_name() {
    let host = Host::new("path");
    for (path, name) in [
        ("/machine.slice/machine-web.scope/payload", "web"),
        ("/lxc.payload.web/system.slice/ssh.service", "web"),
        ("/lxc/web/init.scope", "web"),
    ] {
        for cgroup in both(path) {
            assert_eq!(host.of(&cgroup).as_deref(), Some(name), "{cgroup}");
        }
    }
    assert_eq!(host.of("0::/system.slice/ssh.service\n"), None);
}

/// A user and a container can give a cgroup the id of any other container.
#[test]
fn a_name_is_only_that_of_a_container_that_root_has_made() {
    let host = Host::new("inside");
    host.docker(ID, "/web");
    host.docker(OTHER, "/node");
    let user = "/user.slice/user-1000.slice/user@1000.service";
    for (path, expected) in [
        (format!("{user}/user.slice/libpod-{ID}.scope"), "user@1000/0123456789ab"),
        (format!("{user}/docker-{OTHER}.scope/docker/{ID}"), "user@1000/0123456789ab"),
        (format!("/docker/{OTHER}/docker/{ID}"), "node/0123456789ab"),
        (format!("/lxc.payload.box/docker-{ID}.scope"), "box/0123456789ab"),
        (format!("/docker/{OTHER}/lxc.payload.web"), "node/web"),
    ] {
        for cgroup in both(&path) {
            assert_eq!(host.of(&cgroup).as_deref(), Some(expected), "{cgroup}");
        }
    }
}

/// A name is no prefix, and no other container's id.
#[test]
fn names_that_no_runtime_allows() {
    let host = Host::new("names");
    let cgroup = format!("0::/docker/{ID}\n");
    let long = "a".repeat(253);
    for name in ["web", "a", "Web_1.x-y", "k8s_a_b", "0123456789a", long.as_str()] {
        host.docker(ID, &format!("/{name}"));
        assert_eq!(host.of(&cgroup).as_deref(), Some(name));
    }
    for name in [
        "",
        "-web",
        "a/b",
        "user@1000/web",
        "a b",
        r"a\u001b[2J",
        r"a\nb",
        r"a\u0000",
        "wéb",
        "abababababab",
        OTHER,
        &format!("{long}a"),
        "k8s_abababababab_b_c_d_0",
        "k8s__b_c_d_0",
    ] {
        host.docker(ID, &format!("/{name}"));
        assert_eq!(host.of(&cgroup).as_deref(), Some(SHOWN), "{name}");
        host.docker(ID, name);
        assert_eq!(host.of(&cgroup).as_deref(), Some(SHOWN), "{name}");
        fs::remove_file(host.path(&docker(ID))).unwrap();
        host.storage(0, ID, &format!(r#"["{name}"]"#));
        assert_eq!(host.of(&cgroup).as_deref(), Some(SHOWN), "{name}");
    }
    for log in [
        format!("pod_ns_abababababab-{ID}.log"),
        format!("pod_ns_-{ID}.log"),
        format!("pod_ns_a\x1b[2J-{ID}.log"),
        format!("pod_ns-{ID}.log"),
        format!("pod_ns_web-{ID}"),
        format!("pod_ns_web-{}.log", &ID[1..]),
        format!("pod_ns_web-{ID}0.log"),
        format!("{ID}.log"),
        ".log".to_owned(),
    ] {
        host.log(&log);
    }
    host.storage(0, &ID[1..], r#"["web"]"#);
    assert_eq!(host.of(&cgroup).as_deref(), Some(SHOWN));
}

/// What each of these files could be that is no file of a runtime.
#[test]
fn files_that_are_no_runtime_s() {
    let host = Host::new("files");
    let cgroup = format!("0::/docker/{ID}\n");
    let name = || host.of(&cgroup);
    let docker_s: Made = &|| host.docker(ID, "/web");
    let podman_s: Made = &|| host.storage(0, ID, r#"["web"]"#);
    let temporary = |host: &Host| host.path("elsewhere");
    for (make, most) in [(docker_s, DOCKER_MOST), (podman_s, STORAGE_MOST)] {
        let path = make();
        let json = fs::read(&path).unwrap();
        assert_eq!(name().as_deref(), Some("web"), "{path:?}");
        let write = |content: &[u8]| fs::write(&path, content).unwrap();
        // The largest that is read, and a byte more.
        let padded = |bytes: usize| [&json[..], &vec![b' '; bytes - json.len()]].concat();
        write(&padded(most));
        assert_eq!(name().as_deref(), Some("web"), "{path:?}");
        write(&padded(most + 1));
        assert_eq!(name().as_deref(), Some(SHOWN), "{path:?}");
        let deep = "[".repeat(100_000);
        for content in
            [b"", &json[..json.len() - 1], b"null", b"{}", b"[1]", deep.as_bytes(), b"\xff\xfe"]
        {
            write(content);
            assert_eq!(name().as_deref(), Some(SHOWN), "{path:?}");
        }
        let not_utf8 = String::from_utf8(json.clone()).unwrap().replace("web", "w_b");
        let not_utf8: Vec<u8> =
            not_utf8.bytes().map(|byte| if byte == b'_' { 0xff } else { byte }).collect();
        write(&not_utf8);
        assert_eq!(name().as_deref(), Some(SHOWN), "{path:?}");
        // Others can write it.
        write(&json);
        fs::set_permissions(&path, Permissions::from_mode(0o666)).unwrap();
        assert_eq!(name().as_deref(), Some(SHOWN), "{path:?}");
        // A link, a FIFO and a directory.
        make();
        fs::rename(&path, temporary(&host)).unwrap();
        symlink(temporary(&host), &path).unwrap();
        assert_eq!(name().as_deref(), Some(SHOWN), "{path:?}");
        fs::remove_file(&path).unwrap();
        mknodat(CWD, &path, FileType::Fifo, Mode::from(0o600), 0).unwrap();
        assert_eq!(name().as_deref(), Some(SHOWN), "{path:?}");
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        assert_eq!(name().as_deref(), Some(SHOWN), "{path:?}");
        fs::remove_dir(&path).unwrap();
    }
    // A directory of others has names that others have chosen.
    host.log(&format!("pod_ns_web-{ID}.log"));
    assert_eq!(name().as_deref(), Some("web"));
    let logs = host.0.join(LOGS);
    fs::set_permissions(&logs, Permissions::from_mode(0o777)).unwrap();
    assert_eq!(name().as_deref(), Some(SHOWN));
}

#[test]
fn files_of_another_user() {
    if !geteuid().is_root() {
        eprintln!("SKIPPED: only root can give a file away");
        return;
    }
    let host = Host::new("owner");
    let cgroup = format!("0::/docker/{ID}\n");
    host.log(&format!("pod_ns_web-{ID}.log"));
    let logs = host.0.join(LOGS);
    for (owner, expected) in [(0, "web"), (1234, SHOWN)] {
        chown(&logs, Some(owner), None).unwrap();
        assert_eq!(host.of(&cgroup).as_deref(), Some(expected));
    }
    let docker_s: Made = &|| host.docker(ID, "/web");
    let podman_s: Made = &|| host.storage(1, ID, r#"["web"]"#);
    for make in [docker_s, podman_s] {
        let path = make();
        for (owner, expected) in [(0, "web"), (1234, SHOWN)] {
            chown(&path, Some(owner), None).unwrap();
            assert_eq!(host.of(&cgroup).as_deref(), Some(expected), "{path:?}");
        }
        fs::remove_file(&path).unwrap();
    }
}

#[test]
fn what_is_known_is_not_searched_again_at_once() {
    let host = Host::new("time");
    let mut containers = host.containers();
    let begin = Instant::now();
    let mut at = |seconds: f32, id: &str| {
        let now = begin + Duration::from_secs_f32(seconds);
        of(&mut containers, &format!("0::/docker/{id}\n"), now).unwrap()
    };
    assert_eq!(at(0.0, ID), SHOWN);
    host.docker(ID, "/web");
    assert_eq!(at(9.0, ID), SHOWN);
    assert_eq!(at(10.0, ID), "web");
    // It gets another name, and then its runtime forgets it.
    host.docker(ID, "/api");
    assert_eq!(at(69.0, ID), "web");
    assert_eq!(at(70.0, ID), "api");
    fs::remove_file(host.path(&docker(ID))).unwrap();
    assert_eq!(at(200.0, ID), "api");
    // One that is new at the next moment has its name without a wait of ten seconds.
    assert_eq!(at(300.0, OTHER), "fedcba987654");
    let third = ID.replace('0', "9");
    host.log(&format!("pod_ns_web-{third}.log"));
    assert_eq!(at(300.5, &third), "9123456789ab");
    assert_eq!(at(301.0, &third), "web");
}

#[test]
fn what_is_remembered_is_bounded() {
    let host = Host::new("bound");
    host.docker(ID, "/web");
    let mut containers = host.containers();
    let now = Instant::now();
    for number in 0..MOST + 5 {
        // Each of them is searched in the lists anew.
        containers.read = None;
        containers.name(format!("{number:064x}").as_bytes(), now);
    }
    assert_eq!(containers.known.len(), 5);
    assert_eq!(containers.name(ID.as_bytes(), now).as_deref(), Some(&b"web"[..]));
}
