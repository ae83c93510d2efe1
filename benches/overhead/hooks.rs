//! The hooks alone: the same ones that bwmon uses, with programs that do nothing.

use std::fs::{self, File};
use std::io;
use std::process::{Command, Stdio};

use anyhow::{Context, bail, ensure};
use aya::Ebpf;
use aya::programs::{CgroupAttachMode, CgroupSkbAttachType, Program};
use testbed::bench::roles::{READY, say};

use crate::scene::directory;

/// The programs, compiled.
pub(crate) struct Hooks(Vec<u8>);

impl Hooks {
    pub(crate) fn compile() -> anyhow::Result<Hooks> {
        let object = directory().join("hooks.o");
        let compiler = "clang-14";
        let mut command = Command::new(compiler);
        command.args(["-O2", "-target", "bpf", "-c", "-x", "c", "-", "-o"]).arg(&object);
        let mut compiling = command
            .stdin(Stdio::piped())
            .spawn()
            .with_context(|| format!("{compiler} can't be run"))?;
        let source = include_bytes!("hooks.bpf.c");
        io::copy(&mut &source[..], &mut compiling.stdin.take().context("no pipe")?)?;
        ensure!(compiling.wait()?.success(), "{compiler} fails");
        Ok(Hooks(fs::read(&object)?))
    }

    /// Attaches them to the root of the hierarchy of control groups and to the tracepoints, until what it returns
    /// is dropped.
    pub(crate) fn attach(&self) -> anyhow::Result<Ebpf> {
        let mounts = fs::read_to_string("/proc/self/mounts")?;
        let mut mounts = mounts.lines().map(|line| line.split(' ').collect::<Vec<&str>>());
        let mount = mounts.find(|mount| mount.get(2) == Some(&"cgroup2"));
        let root = mount.as_ref().and_then(|mount| mount.get(1)).context("no cgroup v2")?;
        let (root, mode) = (File::open(root)?, CgroupAttachMode::Single);
        let mut programs = Ebpf::load(&self.0)?;
        for (name, program) in programs.programs_mut() {
            let direction = match name {
                "ingress" => CgroupSkbAttachType::Ingress,
                _ => CgroupSkbAttachType::Egress,
            };
            match program {
                Program::CgroupSkb(program) => {
                    program.load()?;
                    program.attach(&root, direction, mode)?;
                }
                Program::CgroupSock(program) => {
                    program.load()?;
                    program.attach(&root, mode)?;
                }
                Program::SockOps(program) => {
                    program.load()?;
                    program.attach(&root, mode)?;
                }
                Program::RawTracePoint(program) => {
                    program.load()?;
                    program.attach(if name == "queue" { "net_dev_queue" } else { "kfree_skb" })?;
                }
                _ => bail!("a program of another type"),
            }
        }
        Ok(programs)
    }
}

/// Has them attached, as if it were a program that watches, until it is killed.
pub(crate) fn hold() -> anyhow::Result<()> {
    let _attached = Hooks::compile()?.attach()?;
    say(READY)?;
    loop {
        std::thread::park();
    }
}
