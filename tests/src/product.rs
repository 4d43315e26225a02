//! The product as its user meets it: a program that is started, killed and stopped.
use std::ffi::OsStr;
use std::fs::{self, OpenOptions};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};

use crate::wait_until;

/// A running `replicator`. Dropping it kills it.
#[derive(Debug)]
pub struct Replicator {
    child: Child,
    log: PathBuf,
}

impl Replicator {
    /// Starts the built program. What it prints is appended to the file `log`.
    ///
    /// # Errors
    ///
    /// There is no built program, or it cannot be run.
    pub fn start<A: AsRef<OsStr>>(
        log: &Path,
        arguments: impl IntoIterator<Item = A>,
    ) -> Result<Self> {
        let program = program()?;
        if let Some(folder) = log.parent() {
            fs::create_dir_all(folder)?;
        }
        let out = OpenOptions::new().create(true).append(true).open(log)?;
        let child = Command::new(&program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(out.try_clone()?)
            .stderr(out)
            .spawn()
            .with_context(|| format!("could not run {}", program.display()))?;
        Ok(Self { child, log: log.to_owned() })
    }

    /// Its process number.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The most memory it has had at one time, in KiB; 0 where the system does not say.
    #[must_use]
    pub fn memory_peak_kib(&self) -> u64 {
        // "VmHWM:    12345 kB", proc(5).
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        line.and_then(|text| text.split_whitespace().next()?.parse().ok()).unwrap_or(0)
    }

    /// Everything it has printed so far.
    ///
    /// # Errors
    ///
    /// The file cannot be read.
    pub fn log(&self) -> Result<String> {
        Ok(String::from_utf8_lossy(&fs::read(&self.log)?).into_owned())
    }

    /// How it ended, or `None` if it runs.
    ///
    /// # Errors
    ///
    /// The system does not say.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    /// Fails if the program has ended, with the last lines it printed.
    ///
    /// # Errors
    ///
    /// It has ended.
    pub fn must_run(&mut self) -> Result<()> {
        let Some(status) = self.ended()? else { return Ok(()) };
        let log = self.log()?;
        let lines: Vec<&str> = log.lines().collect();
        let last = &lines[lines.len().saturating_sub(15)..];
        bail!("replicator ended with {status}; it said last:\n{}", last.join("\n"))
    }

    /// Kills it with SIGKILL: it gets no chance to do anything more.
    ///
    /// # Errors
    ///
    /// It had ended by itself already.
    pub fn kill(mut self) -> Result<()> {
        self.must_run()?;
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Asks it to stop with SIGTERM and waits until it has.
    ///
    /// # Errors
    ///
    /// It had ended by itself already, or did not stop in time.
    pub async fn stop(mut self, limit: Duration) -> Result<ExitStatus> {
        self.must_run()?;
        self.signal("TERM")?;
        self.wait(limit).await
    }

    /// Waits until it ends by itself.
    ///
    /// # Errors
    ///
    /// It did not in time.
    pub async fn wait(&mut self, limit: Duration) -> Result<ExitStatus> {
        let mut status = None;
        let child = &mut self.child;
        wait_until(limit, "replicator ends", async || {
            status = child.try_wait()?;
            Ok(status.is_some())
        })
        .await?;
        status.context("a process that ended has a status")
    }

    /// Sends it a signal by name, such as `STOP` or `HUP`.
    ///
    /// # Errors
    ///
    /// It does not exist any more.
    pub fn signal(&self, name: &str) -> Result<()> {
        // The shell's own kill: a small system has no other.
        let status = Command::new("bash")
            .args(["-c", "kill -s \"$1\" \"$2\"", "kill", name, &self.pid().to_string()])
            .status()
            .context("could not run bash")?;
        ensure!(status.success(), "could not send SIG{name} to process {}", self.pid());
        Ok(())
    }
}

impl Drop for Replicator {
    fn drop(&mut self) {
        // Both fail only if it has ended already, which is what we want.
        self.child.kill().unwrap_or_default();
        drop(self.child.wait());
    }
}

/// The built program: `$REPLICATOR_BIN`, or the one beside the running test program.
///
/// # Errors
///
/// There is none.
pub fn program() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("REPLICATOR_BIN") {
        return Ok(path.into());
    }
    // target/PROFILE/demo, or target/PROFILE/deps/all-HASH
    let ours = std::env::current_exe()?;
    let found = ours.ancestors().skip(1).take(2).map(|folder| folder.join("replicator"));
    for path in found {
        match fs::metadata(&path) {
            Ok(meta) if meta.is_file() => return Ok(path),
            Ok(_) => (),
            Err(error) if error.kind() == ErrorKind::NotFound => (),
            Err(error) => return Err(error.into()),
        }
    }
    bail!(
        "there is no built replicator beside {}; build it: cargo build -p replicator",
        ours.display()
    )
}
