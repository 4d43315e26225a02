//! The pretend target: runs planned steps on a relational database, all of a batch or nothing, and
//! records in the same transaction what it holds.
use replicator_core::Failure;
use replicator_core::model::mutation::{ApplyRequest, Mutation, Piece};
use replicator_core::plan::plan;

use crate::database::{Database, Refusal};
use crate::schema::schema;
use crate::store::{Fence, Recorded, Store};

/// The target database, with the staging tables in it.
#[derive(Debug)]
pub struct Target {
    /// The staging tables.
    pub store: Store,
    database: Database,
    open: Option<Open>,
}

/// The transaction that the pieces of a source transaction are in.
#[derive(Clone, Debug)]
struct Open {
    database: Database,
    contents: Contents,
}

/// What a target transaction holds.
#[derive(Clone, Debug, Default)]
pub struct Contents {
    /// The changes, in source order.
    pub mutations: Vec<Mutation>,
    /// Those that were not applied but kept for a human, by index.
    pub dead: Vec<usize>,
}

/// What came of an apply that was not refused.
#[derive(Debug)]
pub enum Outcome {
    /// The transaction has committed.
    Committed(Contents),
    /// A piece is in its open transaction.
    Open,
    /// The batch was in the target before; nothing happened.
    Known,
}

/// A refusal without a lasting reason: somebody else's lock or trigger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mood {
    /// None.
    Calm,
    /// The statement with this number, counted round, is refused.
    RefusesStatement(usize),
    /// The commit is refused.
    RefusesCommit,
}

impl Target {
    /// An empty target.
    #[must_use]
    pub fn new(store: Store, strict: bool) -> Self {
        Self { store, database: Database::new(strict), open: None }
    }

    /// The committed rows.
    #[must_use]
    pub fn database(&self) -> &Database {
        &self.database
    }

    /// Takes the limits away that the source does not have.
    pub fn relent(&mut self) {
        self.database.relent();
        if let Some(open) = &mut self.open {
            open.database.relent();
        }
    }

    /// The connection of the open transaction is lost.
    pub fn hang_up(&mut self) {
        self.open = None;
    }

    /// Whether some pieces are in an open transaction.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// Applies a batch or a piece.
    ///
    /// # Errors
    ///
    /// The target refused; nothing has happened.
    pub fn apply(
        &mut self,
        fence: Fence,
        request: &ApplyRequest,
        mood: Mood,
    ) -> Result<Outcome, Failure> {
        let ApplyRequest { batch, order: _, dead } = request;
        match self.store.look_up(fence, batch) {
            Recorded::Fenced => return Err(Failure::Fenced),
            Recorded::Known if batch.piece.commits() => return Ok(Outcome::Known),
            Recorded::Known | Recorded::Fresh => (),
        }
        let mut work = self.transaction(batch.piece)?;
        let savepoint = (batch.piece != Piece::Whole).then(|| work.clone());
        if let Err(failure) = run(&mut work.database, request, mood) {
            self.open = savepoint;
            return Err(failure);
        }
        let first = work.contents.mutations.len();
        work.contents.mutations.extend(batch.mutations.iter().cloned());
        work.contents.dead.extend(dead.iter().map(|index| first + index));
        if !batch.piece.commits() {
            self.open = Some(work);
            return Ok(Outcome::Open);
        }
        self.store.record(fence, batch);
        self.database = work.database;
        Ok(Outcome::Committed(work.contents))
    }

    /// The transaction that a piece goes into.
    fn transaction(&mut self, piece: Piece) -> Result<Open, Failure> {
        match (self.open.take(), piece) {
            (Some(_), Piece::Whole) => panic!("a batch is applied between two pieces"),
            (Some(open), Piece::First | Piece::Middle | Piece::Last) => Ok(open),
            (None, Piece::Whole | Piece::First) => {
                let (database, contents) = (self.database.clone(), Contents::default());
                Ok(Open { database, contents })
            }
            (None, Piece::Middle | Piece::Last) => {
                let detail = "the transaction that earlier pieces are in is gone".to_owned();
                Err(Failure::Transient { detail })
            }
        }
    }
}

/// Runs a request's steps, and what is put off to the commit if it commits.
fn run(database: &mut Database, request: &ApplyRequest, mood: Mood) -> Result<(), Failure> {
    let ApplyRequest { batch, order, dead } = request;
    let steps = plan(&schema().catalog, &batch.mutations, order, dead);
    for (number, step) in steps.iter().enumerate() {
        let at = step.at.clone();
        if let Mood::RefusesStatement(refused) = mood
            && refused % steps.len() == number
        {
            return Err(Failure::Rejected { detail: "a mood of the target".to_owned(), at });
        }
        database.run(step).map_err(|refusal| failure(refusal, at))?;
    }
    if batch.piece.commits() {
        database.end_transaction().map_err(|refusal| failure(refusal, None))?;
        if mood == Mood::RefusesCommit {
            let detail = "a mood of the target".to_owned();
            return Err(Failure::Constraint { detail, at: None });
        }
    }
    Ok(())
}

fn failure(refusal: Refusal, at: Option<std::ops::Range<usize>>) -> Failure {
    match refusal {
        Refusal::Constraint(detail) => Failure::Constraint { detail, at },
        Refusal::Rejected(detail) => Failure::Rejected { detail, at },
    }
}
