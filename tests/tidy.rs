//! Checks on the code itself: the rules of ARCHITECTURE.md and STYLE.md that a program can see.
use std::fs;
use std::path::{Path, PathBuf};

/// Packages with source files. `fuzz` has its own layout, given by cargo-fuzz.
const PACKAGES: [&str; 6] = ["core", "io", "sim", "bin", "fuzz", "tests"];

/// What would let the outside world into the core.
const IMPURE: [&str; 8] =
    ["async fn", ".await", "std::time", "std::net", "std::fs", "std::thread", "tokio::", "rand::"];

/// Words for things that have another name here (STYLE.md, glossary), or that say nothing.
const UNLIKED: [&str; 10] = [
    "sink",
    "upstream",
    "downstream",
    "watermark",
    "poisoned",
    "helper",
    "helpers",
    "util",
    "utils",
    "manager",
];

/// Lines of code that a file may have, its tests not counted.
const LINES_MAX: usize = 500;

/// Files above that, and their size. A number here may only go down, and an entry only out.
const LARGE: [(&str, usize); 0] = [];

/// Marks of a check in a test. `check` is the usual name of a function that many tests go through.
const CHECKS: [&str; 8] =
    ["assert", "ensure!", "bail!", "panic!", "check", "unwrap_err", "wait_until", "should_panic"];

#[test]
fn core_is_pure() {
    let found = lines_with(&rust_files("core/src"), |code| {
        IMPURE.iter().find(|word| code.contains(**word)).map(|word| format!("`{word}`"))
    });
    assert!(found.is_empty(), "core must stay pure:\n{}", found.join("\n"));
}

#[test]
fn stations_do_not_know_each_other() {
    let stations: Vec<Source> = rust_files("core/src/flow")
        .into_iter()
        .filter(|file| !file.name.ends_with("/mod.rs"))
        .collect();
    assert!(stations.len() > 5, "the stations have moved");
    let found = lines_with(&stations, |code| {
        (code.contains("crate::flow") || code.contains("super::")).then(|| code.trim().to_owned())
    });
    assert!(found.is_empty(), "only the machine connects stations:\n{}", found.join("\n"));
}

#[test]
fn sources_stores_and_targets_do_not_know_each_other() {
    const KINDS: [&str; 3] = ["source", "staging", "target"];
    let mut found = Vec::new();
    for kind in KINDS {
        let files = rust_files(&format!("io/src/{kind}"));
        found.extend(lines_with(&files, |code| {
            let others = KINDS.iter().filter(|other| **other != kind);
            let paths = others.map(|other| [format!("crate::{other}"), format!("super::{other}")]);
            paths.flatten().find(|path| code.contains(path.as_str()))
        }));
    }
    assert!(found.is_empty(), "only io/src/replicate knows all adapters:\n{}", found.join("\n"));
}

#[test]
fn every_file_says_what_it_is_for() {
    for file in all_files() {
        assert!(
            file.text.starts_with("//! "),
            "{}: the first line must be a module doc",
            file.name
        );
    }
}

#[test]
fn every_exception_has_a_reason() {
    for file in all_files() {
        for (place, attribute) in
            attributes(&file, "#[expect(").into_iter().chain(attributes(&file, "#![expect("))
        {
            assert!(attribute.contains("reason ="), "{}:{place}: {attribute}", file.name);
        }
    }
    let allowed = lines_with(&all_files(), |code| {
        let code = code.trim_start();
        (code.starts_with("#[allow(") || code.starts_with("#![allow(")).then(|| code.to_owned())
    });
    assert!(allowed.is_empty(), "write expect with a reason:\n{}", allowed.join("\n"));
}

#[test]
fn nothing_is_unsafe_but_one_file() {
    // It answers the C library's questions in the simulator, which can be done in no other way.
    let mut files = all_files();
    files.retain(|file| file.name != "sim/src/os.rs");
    let found = lines_with(&files, |code| {
        words(code).any(|word| word == "unsafe").then(|| code.trim().to_owned())
    });
    assert!(found.is_empty(), "unsafe code:\n{}", found.join("\n"));
}

#[test]
fn nothing_is_left_behind() {
    const MARKS: [&str; 5] = ["#[ignore", "todo!(", "unimplemented!(", "dbg!(", "FIXME"];
    let found = lines_with(&all_files(), |code| {
        MARKS.iter().find(|mark| code.contains(**mark)).map(|mark| format!("`{mark}`"))
    });
    assert!(found.is_empty(), "left behind:\n{}", found.join("\n"));
}

#[test]
fn files_stay_small() {
    let mut found = Vec::new();
    for file in all_files() {
        let lines = file.code().count();
        let listed = LARGE.iter().find(|(name, _)| *name == file.name);
        let limit = listed.map_or(LINES_MAX, |(_, limit)| *limit);
        if limit < lines {
            found.push(format!("{}: {lines} lines; split it by responsibility", file.name));
        }
        if listed.is_some() && lines + 20 < limit {
            found.push(format!("{}: {lines} lines; say so in LARGE", file.name));
        }
    }
    assert!(found.is_empty(), "sizes:\n{}", found.join("\n"));
}

#[test]
fn public_names_use_the_glossary() {
    const KINDS: [&str; 9] =
        ["fn", "struct", "enum", "trait", "type", "const", "static", "mod", "async"];
    let found = lines_with(&all_files(), |code| {
        let declared = code.trim_start().strip_prefix("pub ")?;
        // The name is the first word that is no keyword; for a field that is the first one.
        let name = words(declared).find(|word| !KINDS.contains(word))?;
        let bad = parts(name).into_iter().find(|part| UNLIKED.contains(&part.as_str()))?;
        Some(format!("`{bad}` in `{name}`"))
    });
    assert!(found.is_empty(), "there are better words:\n{}", found.join("\n"));
}

#[test]
fn every_test_checks_something() {
    let mut tests = 0;
    let mut found = Vec::new();
    for file in all_files() {
        let functions = functions(&file);
        let checking = checking(&functions);
        for function in functions.iter().filter(|function| function.is_test) {
            tests += 1;
            if !checking.contains(&function.name.as_str()) {
                found.push(format!("{}: {}", file.name, function.name));
            }
        }
    }
    assert!(found.is_empty(), "tests without a check:\n{}", found.join("\n"));
    assert!(tests > 20, "the tests have moved");
}

#[test]
fn scripts_name_no_hosts() {
    let mut scripts = vec![root().join("Makefile"), root().join(".ci/run")];
    scripts.extend(files_below(&root().join("tests/dbs")));
    for script in scripts {
        let text = fs::read_to_string(&script).expect("a script is text");
        let host = text.lines().find(|line| line.contains("://"));
        assert_eq!(host, None, "{}: packages are named, hosts are not", script.display());
    }
}

/// A source file.
struct Source {
    /// Its path from the root of the repository.
    name: String,
    text: String,
}

impl Source {
    /// Its lines above the tests.
    fn code(&self) -> impl Iterator<Item = &str> {
        self.text.lines().take_while(|line| *line != "mod tests {")
    }
}

/// Looks at each line of code, without comments, above the tests. Returns places and findings.
fn lines_with(files: &[Source], look: impl Fn(&str) -> Option<String>) -> Vec<String> {
    let mut found = Vec::new();
    // This file names what it looks for.
    for file in files.iter().filter(|file| file.name != "tests/tidy.rs") {
        for (number, line) in file.code().enumerate() {
            let code = line.split("//").next().unwrap_or_default();
            if let Some(finding) = look(code) {
                found.push(format!("{}:{}: {finding}", file.name, number + 1));
            }
        }
    }
    found
}

/// Attributes that begin like this, each with its line number, to its closing bracket.
fn attributes(file: &Source, begin: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let lines: Vec<&str> = file.text.lines().collect();
    for (number, line) in lines.iter().enumerate() {
        if line.trim_start().starts_with(begin) {
            let mut text = String::new();
            for line in &lines[number..] {
                text.push_str(line.trim());
                if line.trim_end().ends_with(")]") {
                    break;
                }
            }
            found.push((number + 1, text));
        }
    }
    found
}

/// How a function's first line may begin.
const FUNCTION: [&str; 4] = ["fn ", "pub", "async ", "const "];

/// A function of a file.
struct Function {
    name: String,
    body: String,
    is_test: bool,
}

/// The functions of a file, by the look of their first lines.
fn functions(file: &Source) -> Vec<Function> {
    let mut found = Vec::new();
    let mut is_test = false;
    let lines: Vec<&str> = file.text.lines().collect();
    for (number, line) in lines.iter().enumerate() {
        let code = line.split("//").next().unwrap_or_default();
        if code.contains("#[test]") || code.contains("#[tokio::test") {
            is_test = true;
        }
        // Such a test is checked by its attribute.
        if code.contains("#[should_panic(expected") {
            is_test = false;
        }
        if !FUNCTION.iter().any(|begin| code.trim_start().starts_with(begin)) {
            continue;
        }
        let mut words = words(code).skip_while(|word| *word != "fn").skip(1);
        if let Some(name) = words.next() {
            found.push(Function { name: name.to_owned(), body: body(&lines[number..]), is_test });
            is_test = false;
        }
    }
    found
}

/// The names of the functions that check something, themselves or through another of the same file.
fn checking(functions: &[Function]) -> Vec<&str> {
    let mut names: Vec<&str> = Vec::new();
    loop {
        let before = names.len();
        for function in functions {
            let calls = |name: &&str| function.body.contains(&format!("{name}("));
            let checks = CHECKS.iter().any(|check| function.body.contains(check));
            if !names.contains(&function.name.as_str()) && (checks || names.iter().any(calls)) {
                names.push(&function.name);
            }
        }
        if names.len() == before {
            return names;
        }
    }
}

/// What follows the first brace, to the brace that closes it.
fn body(lines: &[&str]) -> String {
    let mut text = String::new();
    let mut depth = 0_usize;
    let mut brackets = 0_usize;
    let mut opened = false;
    for line in lines {
        for letter in line.chars() {
            match letter {
                '{' => {
                    depth += 1;
                    opened = true;
                }
                '}' => depth = depth.saturating_sub(1),
                '[' => brackets += 1,
                ']' => brackets = brackets.saturating_sub(1),
                // A declaration without a body; not the length of an array.
                ';' if !opened && brackets == 0 => return text,
                _ => (),
            }
        }
        if opened {
            text.push_str(line);
            text.push('\n');
        }
        if opened && depth == 0 {
            break;
        }
    }
    text
}

fn words(code: &str) -> impl Iterator<Item = &str> {
    code.split(|letter: char| !letter.is_alphanumeric() && letter != '_')
        .filter(|word| !word.is_empty())
}

/// `SinkName` and `sink_name` are both `sink` and `name`.
fn parts(name: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    for letter in name.chars() {
        if letter == '_' || letter.is_uppercase() {
            parts.push(String::new());
        }
        if letter != '_'
            && let Some(part) = parts.last_mut()
        {
            part.extend(letter.to_lowercase());
        }
    }
    parts
}

fn all_files() -> Vec<Source> {
    let files: Vec<Source> = PACKAGES.into_iter().flat_map(rust_files).collect();
    assert!(files.len() > 30, "the source files have moved");
    files
}

/// The Rust files below a folder, in the order of their names.
fn rust_files(folder: &str) -> Vec<Source> {
    let root = root();
    let files = files_below(&root.join(folder));
    let rust = files.into_iter().filter(|path| path.extension().is_some_and(|e| e == "rs"));
    rust.map(|path| {
        let name = path.strip_prefix(&root).expect("below the root").display().to_string();
        Source { name, text: fs::read_to_string(&path).expect("a source file is text") }
    })
    .collect()
}

fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder of the project") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            // Build output of cargo-fuzz.
            if path.file_name().is_none_or(|name| name != "target") {
                files.extend(files_below(&path));
            }
        } else {
            files.push(path);
        }
    }
    files.sort();
    files
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace").to_owned()
}
