//! Every story of some tiny worlds: a few transactions on a few rows, every order in which messages
//! come and effects are done, one crash at every step with every choice of what had arrived by then, and
//! one effect of the dead run that arrives late.
use std::time::Duration;

use replicator_core::model::mutation::TableId;
use replicator_core::{Config, OnReject, Retry};

use crate::action::Action;
use crate::coverage::Coverage;
use crate::fault::{Faults, Kind, Setup};
use crate::schema::{Tuple, Value, schema};
use crate::story::Statement;
pub use crate::world::Bounds;
use crate::world::World;

/// No story of a tiny world is longer.
const STEPS_MAX: usize = 200;

/// A tiny world.
#[derive(Debug)]
pub struct Tiny {
    /// What it is about.
    pub name: &'static str,
    /// The source.
    pub kind: Kind,
    transactions: Vec<Vec<Statement>>,
}

/// What a search found.
#[derive(Debug, Default)]
pub struct Found {
    /// Stories that were played.
    pub stories: usize,
    /// The longest, in actions.
    pub longest: usize,
    /// What they reached.
    pub coverage: Coverage,
}

/// All tiny worlds.
#[must_use]
pub fn worlds() -> Vec<Tiny> {
    let kinds = [Kind::Ordered, Kind::Changefeed];
    kinds.into_iter().flat_map(tiny).collect()
}

fn tiny(kind: Kind) -> Vec<Tiny> {
    let world = |name, transactions| Tiny { name, kind, transactions };
    let mut worlds = vec![
        world(
            "one row changes twice",
            vec![
                vec![insert("plain", &[1, 0, 0])],
                vec![update("plain", 1, &[1, 1, 1])],
                vec![insert("plain", &[2, 2, 2])],
            ],
        ),
        world(
            "a row comes, goes and comes",
            vec![
                vec![insert("plain", &[1, 0, 0])],
                vec![delete("plain", 1)],
                vec![insert("plain", &[1, 1, 1])],
            ],
        ),
        world(
            "a parent and its child",
            vec![
                vec![insert("parent", &[1, 0])],
                vec![insert("child", &[1, 1, 0])],
                vec![delete("child", 1), delete("parent", 1)],
            ],
        ),
    ];
    // A changefeed does not tell in which order one transaction let a value go and took it.
    if kind == Kind::Ordered {
        worlds.push(world(
            "a row takes another's key",
            vec![
                vec![insert("plain", &[1, 0, 0]), insert("plain", &[2, 0, 0])],
                vec![delete("plain", 2), update("plain", 1, &[2, 1, 1])],
                vec![insert("plain", &[1, 2, 2])],
            ],
        ));
        worlds.push(world(
            "a unique value is handed over",
            vec![
                vec![insert("mail", &[1, 7, 0])],
                vec![delete("mail", 1), insert("mail", &[2, 7, 0])],
                vec![delete("mail", 2), insert("mail", &[1, 7, 1])],
            ],
        ));
        worlds.push(world(
            "two rows exchange their unique values",
            vec![
                vec![insert("mail", &[1, 7, 0]), insert("mail", &[2, 8, 0])],
                vec![
                    update_to("mail", 1, &[Some(1), None, Some(0)]),
                    update("mail", 2, &[2, 7, 1]),
                    update("mail", 1, &[1, 8, 1]),
                ],
                vec![delete("mail", 2)],
            ],
        ));
        worlds.push(world(
            "a table is emptied",
            vec![
                vec![insert("plain", &[1, 0, 0])],
                vec![Statement::Truncate(schema().id("plain"))],
                vec![insert("plain", &[2, 1, 1])],
            ],
        ));
    }
    worlds
}

impl Tiny {
    /// Plays every story of this world.
    ///
    /// # Panics
    ///
    /// A promise is broken, or not everything arrives; the message has the story.
    #[must_use]
    pub fn search(&self, bounds: Bounds) -> Found {
        let mut found = Found::default();
        let mut choices = Choices::default();
        loop {
            let (story, coverage) = self.play(bounds, &mut choices);
            found.stories += 1;
            found.longest = found.longest.max(story.len());
            found.coverage.add(&coverage);
            if !choices.next() {
                return found;
            }
        }
    }

    fn play(&self, mut bounds: Bounds, choices: &mut Choices) -> (Vec<Action>, Coverage) {
        let mut world = World::new(self.setup());
        for statements in self.transactions.iter().take(bounds.transactions) {
            let accepted = world.commit_statements(statements);
            assert!(accepted.is_ok(), "{}: the source refuses {accepted:?}", self.name);
        }
        if self.kind == Kind::Changefeed {
            (0..2).for_each(|partition| world.act(&Action::Resolve(partition)));
        }
        let mut story = Story { name: self.name, actions: Vec::new() };
        loop {
            let mut moves = world.moves(bounds);
            if moves.is_empty() {
                break;
            }
            let action = moves.swap_remove(choices.choose(moves.len()));
            if matches!(action, Action::Crash(_)) {
                bounds.crashes -= 1;
            } else if matches!(action, Action::Late(_)) {
                bounds.late -= 1;
            }
            story.actions.push(action.clone());
            assert!(story.actions.len() < STEPS_MAX, "{}: no end", self.name);
            world.act(&action);
        }
        let settled = world.settle();
        assert!(settled.is_ok(), "{}: {settled:?}", self.name);
        (std::mem::take(&mut story.actions), world.coverage().clone())
    }

    /// No faults but those of the search, and limits that let batches run side by side.
    fn setup(&self) -> Setup {
        let delay = Duration::from_millis(1);
        let retry = Retry { tries_max: 2, delay_first: delay, delay_max: delay, factor: 1 };
        Setup {
            kind: self.kind,
            config: Config {
                batch_rows_max: 8,
                batch_txs_max: 1,
                batch_growth_max: 1,
                batch_age_max: Duration::ZERO,
                buffered_bytes_max: 100_000,
                stages_max: 2,
                applies_max: 2,
                retry,
                read_rows_max: 8,
                save_interval: Duration::ZERO,
                on_reject: OnReject::Stop,
                collapse: true,
                seed: 1,
            },
            tables: vec!["plain", "mail", "parent", "child"],
            stories: Vec::new(),
            alters: false,
            replays: false,
            pieces: false,
            limits: false,
            faults: Faults::NONE,
        }
    }
}

/// Prints itself if it ends with a panic.
struct Story {
    name: &'static str,
    actions: Vec<Action>,
}

impl Drop for Story {
    #[expect(clippy::print_stderr, reason = "the panic that comes with it goes there, too")]
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}: {:?}", self.name, self.actions);
        }
    }
}

/// A path through a tree of choices, and where to go next.
#[derive(Debug, Default)]
struct Choices {
    // What was chosen, and out of how many.
    path: Vec<(usize, usize)>,
    at: usize,
}

impl Choices {
    /// A number below `count`: what the path says, and beyond its end the first.
    fn choose(&mut self, count: usize) -> usize {
        if self.at == self.path.len() {
            self.path.push((0, count));
        }
        let (chosen, of) = self.path[self.at];
        assert!(of == count, "the same path has led elsewhere: not deterministic");
        self.at += 1;
        chosen
    }

    /// Goes on to the next path; returns whether there is one.
    fn next(&mut self) -> bool {
        self.at = 0;
        while let Some((chosen, of)) = self.path.pop() {
            if chosen + 1 < of {
                self.path.push((chosen + 1, of));
                return true;
            }
        }
        false
    }
}

fn insert(table: &str, values: &[i64]) -> Statement {
    Statement::Insert(schema().id(table), vec![row(values)])
}

fn update(table: &str, key: i64, values: &[i64]) -> Statement {
    let values: Vec<Value> = values.iter().copied().map(Some).collect();
    update_to(table, key, &values)
}

fn update_to(table: &str, key: i64, values: &[Value]) -> Statement {
    let (table, key): (TableId, Tuple) = (schema().id(table), vec![Some(key)]);
    Statement::Replace { table, key, row: [values, &[None]].concat(), in_full: true }
}

fn delete(table: &str, key: i64) -> Statement {
    Statement::Delete(schema().id(table), vec![vec![Some(key)]])
}

/// A row with its values and, last, room for its version.
fn row(values: &[i64]) -> Tuple {
    values.iter().copied().map(Some).chain([None]).collect()
}

#[cfg(test)]
mod tests {
    use super::Choices;

    #[test]
    fn every_path_is_taken_once() {
        let mut choices = Choices::default();
        let mut paths = Vec::new();
        loop {
            let first = choices.choose(2);
            // The tree is not the same everywhere.
            let second = if first == 0 { choices.choose(3) } else { 9 };
            paths.push((first, second));
            if !choices.next() {
                break;
            }
        }
        assert_eq!(paths, [(0, 0), (0, 1), (0, 2), (1, 9)]);
    }
}
