//! Does the simulator still bite? Plants each fault of `sim/mutants/*.patch` in a copy of the workspace and
//! expects a test of `sim/tests` to fail: the model test, or the one that a line `Noticed by: NAME` names.
//!
//! A patch is a sentence, perhaps that line, and a unified diff. Line numbers do not count: the lines before a change must be
//! found in the file, exactly once.
use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use thiserror::Error;

/// The test that notices a fault unless its patch names another.
const MODEL: &str = "model";

/// Longest time for one run of a test. A planted fault may make it hang.
const TEST_LIMIT: Duration = Duration::from_secs(600);

/// The faults could not be planted. Says nothing about the simulator.
#[derive(Debug, Error)]
pub enum MutantError {
    /// A file could not be read or written.
    #[error("cannot use {}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Cargo could not be run.
    #[error("cannot run cargo")]
    Cargo(#[source] io::Error),
    /// The patch does not fit the code any more.
    #[error("{patch} does not apply: its lines are found {found} times in {file}:\n{lines}")]
    Stale {
        /// The patch.
        patch: String,
        /// The file it changes.
        file: String,
        /// How often its lines are there.
        found: usize,
        /// The lines.
        lines: String,
    },
    /// The patch is not a diff.
    #[error("{patch} is not a unified diff: {line}")]
    Unreadable {
        /// The patch.
        patch: String,
        /// The line that makes no sense.
        line: String,
    },
    /// The code does not compile with the patch.
    #[error("the workspace does not compile with {patch}")]
    DoesNotCompile {
        /// The patch.
        patch: String,
    },
    /// A test fails without any patch.
    #[error("the test {test} fails although nothing is planted")]
    FailsAnyway {
        /// Which.
        test: String,
    },
    /// No patch has this name.
    #[error("no patch is called {name}")]
    Unknown {
        /// The name.
        name: String,
    },
}

/// Plants the faults with these names, or all of them, and prints one line for each. Returns how many were
/// not noticed.
///
/// # Errors
///
/// See [`MutantError`].
pub fn run(workspace: &Path, names: &[&str]) -> Result<usize, MutantError> {
    let patches = patches(workspace, names)?;
    let tree = workspace.join("target/mutants/tree");
    if tree.exists() {
        fs::remove_dir_all(&tree).map_err(at(&tree))?;
    }
    copy(workspace, &tree, &["target", ".git"])?;
    let bench = Bench { tree, build: workspace.join("target/mutants/build") };
    let tests: BTreeSet<&str> = patches.iter().map(|patch| patch.test.as_str()).collect();
    for test in tests {
        if bench.test("nothing", test)? != Verdict::Passes {
            return Err(MutantError::FailsAnyway { test: test.to_owned() });
        }
    }
    let mut survived = 0;
    for patch in &patches {
        let originals = bench.plant(patch)?;
        let verdict = bench.test(&patch.name, &patch.test)?;
        for (path, text) in originals {
            fs::write(&path, text).map_err(at(&path))?;
        }
        let word = match verdict {
            Verdict::Fails(Some(worlds)) => format!("caught in world {}", worlds + 1),
            Verdict::Fails(None) => "caught".to_owned(),
            Verdict::Hangs => "caught, it hangs".to_owned(),
            Verdict::Passes => {
                survived += 1;
                "survived".to_owned()
            }
        };
        say(&format!("{word:<22} {}", patch.name))?;
    }
    say(&format!("{} planted, {survived} survived", patches.len()))?;
    Ok(survived)
}

fn say(line: &str) -> Result<(), MutantError> {
    writeln!(io::stdout(), "{line}").map_err(at(Path::new("the standard output")))
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> MutantError {
    let path = path.to_owned();
    |source| MutantError::File { path, source }
}

/// How a test ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Passes,
    /// After so many worlds that passed, if the test says so.
    Fails(Option<u64>),
    Hangs,
}

/// A copy of the workspace and where it is built.
struct Bench {
    tree: PathBuf,
    build: PathBuf,
}

impl Bench {
    /// Changes the copy; returns what was there before.
    fn plant(&self, patch: &Patch) -> Result<Vec<(PathBuf, String)>, MutantError> {
        let mut originals = Vec::new();
        for change in &patch.changes {
            let path = self.tree.join(&change.file);
            let text = fs::read_to_string(&path).map_err(at(&path))?;
            let found = text.matches(&change.old).count();
            if found != 1 {
                let (patch, file) = (patch.name.clone(), change.file.clone());
                let lines = change.old.clone();
                return Err(MutantError::Stale { patch, file, found, lines });
            }
            fs::write(&path, text.replacen(&change.old, &change.new, 1)).map_err(at(&path))?;
            originals.push((path, text));
        }
        // A file that is changed twice gets its first state back last.
        originals.reverse();
        Ok(originals)
    }

    fn test(&self, patch: &str, test: &str) -> Result<Verdict, MutantError> {
        let built = self.cargo(test, &["--no-run"]).status().map_err(MutantError::Cargo)?;
        if !built.success() {
            return Err(MutantError::DoesNotCompile { patch: patch.to_owned() });
        }
        let said = self.build.join("said");
        let file = fs::File::create(&said).map_err(at(&said))?;
        let mut test = self.cargo(test, &[]).stdout(file).spawn().map_err(MutantError::Cargo)?;
        let started = Instant::now();
        loop {
            if let Some(status) = test.try_wait().map_err(MutantError::Cargo)? {
                if status.success() {
                    return Ok(Verdict::Passes);
                }
                let said = fs::read_to_string(&said).map_err(at(&said))?;
                return Ok(Verdict::Fails(worlds_before(&said)));
            }
            if TEST_LIMIT < started.elapsed() {
                test.kill().map_err(MutantError::Cargo)?;
                test.wait().map_err(MutantError::Cargo)?;
                return Ok(Verdict::Hangs);
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// A test of the copy. Which story fails does not matter, so it is not shortened.
    fn cargo(&self, test: &str, arguments: &[&str]) -> Command {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut command = Command::new(cargo);
        command
            .current_dir(&self.tree)
            .args(["test", "--quiet", "--offline", "-p", "sim", "--test", test])
            .args(arguments)
            .env("CARGO_TARGET_DIR", &self.build)
            .env("PROPTEST_MAX_SHRINK_ITERS", "0")
            .env("RUST_BACKTRACE", "0")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        command
    }
}

/// How many worlds of a kind the test says to have passed before one failed; the least of them.
fn worlds_before(said: &str) -> Option<u64> {
    let counts = said.lines().filter_map(|line| line.trim().strip_prefix("successes: "));
    counts.filter_map(|count| count.trim().parse().ok()).min()
}

/// Copies a folder, without some of the folders that are directly in it.
fn copy(from: &Path, to: &Path, without: &[&str]) -> Result<(), MutantError> {
    fs::create_dir_all(to).map_err(at(to))?;
    for entry in fs::read_dir(from).map_err(at(from))? {
        let entry = entry.map_err(at(from))?;
        let (path, name) = (entry.path(), entry.file_name());
        let kind = entry.file_type().map_err(at(&path))?;
        if kind.is_dir() && !without.iter().any(|without| name == *without) {
            copy(&path, &to.join(&name), &[])?;
        } else if kind.is_file() {
            fs::copy(&path, to.join(&name)).map_err(at(&path))?;
        }
    }
    Ok(())
}

/// A fault to plant.
#[derive(Debug, PartialEq, Eq)]
struct Patch {
    name: String,
    /// The test that must notice.
    test: String,
    changes: Vec<Change>,
}

/// Lines of one file and what becomes of them.
#[derive(Debug, Default, PartialEq, Eq)]
struct Change {
    file: String,
    old: String,
    new: String,
}

fn patches(workspace: &Path, names: &[&str]) -> Result<Vec<Patch>, MutantError> {
    let folder = workspace.join("sim/mutants");
    let mut patches = Vec::new();
    for entry in fs::read_dir(&folder).map_err(at(&folder))? {
        let path = entry.map_err(at(&folder))?.path();
        let text = fs::read_to_string(&path).map_err(at(&path))?;
        let name = path.file_stem().map(|stem| stem.to_string_lossy().into_owned());
        patches.push(parse(&name.unwrap_or_default(), &text)?);
    }
    patches.sort_by(|a, b| a.name.cmp(&b.name));
    for name in names {
        if !patches.iter().any(|patch| patch.name == *name) {
            return Err(MutantError::Unknown { name: (*name).to_owned() });
        }
    }
    patches.retain(|patch| names.is_empty() || names.contains(&patch.name.as_str()));
    Ok(patches)
}

fn parse(name: &str, text: &str) -> Result<Patch, MutantError> {
    let unreadable =
        |line: &str| MutantError::Unreadable { patch: name.to_owned(), line: line.to_owned() };
    let mut changes: Vec<Change> = Vec::new();
    let mut file = None;
    let header = text.lines().take_while(|line| !line.starts_with("--- "));
    let test = header.filter_map(|line| line.strip_prefix("Noticed by: ")).next().unwrap_or(MODEL);
    // What else comes before the first file is for humans.
    for line in text.lines().skip_while(|line| !line.starts_with("--- ")) {
        if line.starts_with("--- ") {
            file = None;
        } else if let Some(path) = line.strip_prefix("+++ b/") {
            file = Some(path.to_owned());
        } else if line.starts_with("@@") {
            let file = file.clone().ok_or_else(|| unreadable(line))?;
            changes.push(Change { file, ..Change::default() });
        } else {
            let change = changes.last_mut().ok_or_else(|| unreadable(line))?;
            let (sign, rest) = line.split_at_checked(1).unwrap_or((" ", ""));
            for (signs, lines) in [(" -", &mut change.old), (" +", &mut change.new)] {
                if signs.contains(sign) {
                    lines.push_str(rest);
                    lines.push('\n');
                }
            }
            if !" +-".contains(sign) {
                return Err(unreadable(line));
            }
        }
    }
    if changes.is_empty() {
        return Err(unreadable("nothing is changed"));
    }
    Ok(Patch { name: name.to_owned(), test: test.to_owned(), changes })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::Path;

    use super::{Change, MutantError, Patch, parse, patches, worlds_before};

    #[test]
    fn every_patch_fits_the_sources() {
        let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let all = patches(workspace, &[]).unwrap();
        assert!(30 < all.len(), "only {} patches", all.len());
        for Patch { name, test, changes } in all {
            let file = workspace.join(format!("sim/tests/{test}.rs"));
            assert!(file.exists(), "{name} is noticed by {test}, which is no test");
            let mut texts = BTreeMap::new();
            for Change { file, old, new } in changes {
                let read = || std::fs::read_to_string(workspace.join(&file)).unwrap();
                let text = texts.entry(file.clone()).or_insert_with(read);
                assert_eq!(text.matches(&old).count(), 1, "{name}: {file} has\n{old}");
                *text = text.replacen(&old, &new, 1);
            }
        }
    }

    #[test]
    fn every_patch_is_in_the_table_of_the_readme() {
        let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let text = std::fs::read_to_string(workspace.join("sim/README.md")).unwrap();
        for Patch { name, .. } in patches(workspace, &[]).unwrap() {
            assert!(text.contains(&format!("| `{name}` |")), "{name} is not in the table");
        }
    }

    #[test]
    fn the_test_says_how_many_worlds_passed() {
        let said =
            "minimal failing input: x\n\tsuccesses: 12\n\tlocal rejects: 0\n\tsuccesses: 7\n";
        assert_eq!(worlds_before(said), Some(7));
        assert_eq!(worlds_before("test result: FAILED"), None);
    }

    #[test]
    fn a_diff_is_old_lines_and_new_lines() {
        let text = "Why.\n\n--- a/x.rs\n+++ b/x.rs\n@@ -1,2 +1,2 @@\n same\n-old\n+new\n";
        let change = Change {
            file: "x.rs".to_owned(),
            old: "same\nold\n".to_owned(),
            new: "same\nnew\n".to_owned(),
        };
        let (name, test) = ("p".to_owned(), "model".to_owned());
        let patch = Patch { name, test, changes: vec![change] };
        assert_eq!(parse("p", text).unwrap(), patch);
        let text = text.replacen("Why.", "Why.\n\nNoticed by: other", 1);
        assert_eq!(parse("p", &text).unwrap(), Patch { test: "other".to_owned(), ..patch });
    }

    #[test]
    fn what_is_no_diff_is_refused() {
        for text in ["", "Why.\n", "--- a/x\n+++ b/x\nx\n", "--- a/x\n@@ -1 +1 @@\n-x\n"] {
            assert!(matches!(parse("p", text), Err(MutantError::Unreadable { .. })), "{text}");
        }
    }
}
