//! The stories that transactions are made of, told in statements.
use replicator_core::model::catalog::Table;
use replicator_core::model::mutation::TableId;

use crate::database::{Database, Refusal};
use crate::fault::{Kind, Setup};
use crate::random::Random;
use crate::schema::{BULK, Tuple, Value, schema};

/// Most rows of one statement.
const FLOOD_ROWS_MAX: usize = 5_000;
/// With more rows than this the next flood deletes them.
const FLOOD_KEPT_MAX: usize = 6_000;

/// What a few statements of a transaction are about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Story {
    /// A row comes.
    Insert,
    /// A row changes and is sent in full.
    Update,
    /// A row changes and only what changed is sent.
    UpdatePart,
    /// A row goes.
    Delete,
    /// A row gets another key, perhaps without its unchanged columns.
    Rekey,
    /// A row comes and goes, or goes and comes.
    Churn,
    /// Two rows exchange their unique values by way of NULL.
    Swap,
    /// One row gives its unique value up, another takes it.
    HandOver,
    /// Children move to another parent and the old one goes.
    Repoint,
    /// Two tables begin or cease to refer to each other.
    Circle,
    /// Rows of one table that refer to each other come or go with one statement, in the worst order.
    Family,
    /// A child comes before its parent.
    Early,
    /// All rows of a table go.
    Truncate,
    /// Up to thousands of rows come with one statement, or go.
    Flood,
}

const EVERYWHERE: [Story; 6] =
    [Story::Insert, Story::Update, Story::Delete, Story::Rekey, Story::HandOver, Story::Repoint];
const ORDERED_ONLY: [Story; 7] = [
    Story::UpdatePart,
    Story::Churn,
    Story::Swap,
    Story::Circle,
    Story::Family,
    Story::Early,
    Story::Truncate,
];

impl Story {
    /// Draws what a world's transactions are about, some of it more often.
    ///
    /// `lasting` says whether changes may become dead letters. Updates in part are left out then: whether
    /// one finds its row depends on what it shares a batch with.
    pub(crate) fn draw(kind: Kind, lasting: bool, random: &mut Random) -> Vec<Self> {
        let mut stories = vec![Self::Insert, Self::Insert, Self::Update];
        for story in EVERYWHERE {
            if random.chance(60) {
                stories.push(story);
            }
        }
        for story in ORDERED_ONLY {
            // A changefeed tells how rows ended, not how they got there.
            let fits = kind == Kind::Ordered && !(lasting && story == Self::UpdatePart);
            if random.chance(40) && fits {
                stories.push(story);
            }
        }
        stories
    }
}

/// One statement.
#[derive(Clone, Debug)]
pub(crate) enum Statement {
    Insert(TableId, Vec<Tuple>),
    Replace { table: TableId, key: Tuple, row: Tuple, in_full: bool },
    Delete(TableId, Vec<Tuple>),
    Truncate(TableId),
}

/// A statement that was run, with the rows it met.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) statement: Statement,
    pub(crate) had: Vec<Tuple>,
}

/// Tells stories to a copy of the source's database.
pub(crate) struct Writer<'a> {
    pub(crate) setup: &'a Setup,
    pub(crate) random: &'a mut Random,
    pub(crate) version: i64,
    pub(crate) database: Database,
}

impl Writer<'_> {
    /// Runs the statements of a story.
    pub(crate) fn tell(&mut self, story: Story) -> Result<Vec<Done>, Refusal> {
        let mut done = Vec::new();
        match story {
            Story::Insert => {
                let table = self.any_table();
                self.insert_new(table, &mut done)?;
            }
            Story::Update => self.update(true, &mut done)?,
            Story::UpdatePart => self.update(false, &mut done)?,
            Story::Delete => {
                let (table, key) = self.any_row()?;
                self.run(Statement::Delete(table, vec![key]), &mut done)?;
            }
            Story::Rekey => self.rekey(&mut done)?,
            Story::Churn => self.churn(&mut done)?,
            Story::Swap => self.exchange(true, &mut done)?,
            Story::HandOver => self.exchange(false, &mut done)?,
            Story::Repoint => self.move_children(&mut done)?,
            Story::Circle => self.circle(&mut done)?,
            Story::Family => self.family(&mut done)?,
            Story::Early => self.early(&mut done)?,
            Story::Truncate => {
                let table = self.any_table();
                self.run(Statement::Truncate(table), &mut done)?;
            }
            Story::Flood => self.flood(&mut done)?,
        }
        Ok(done)
    }

    /// The statement, with rows that are the newest.
    pub(crate) fn stamped(&mut self, statement: &Statement) -> Statement {
        let mut statement = statement.clone();
        match &mut statement {
            Statement::Insert(_, rows) => rows.iter_mut().for_each(|row| self.stamp(row)),
            Statement::Replace { row, .. } => self.stamp(row),
            Statement::Delete(..) | Statement::Truncate(_) => (),
        }
        statement
    }

    pub(crate) fn run(
        &mut self,
        statement: Statement,
        done: &mut Vec<Done>,
    ) -> Result<(), Refusal> {
        let database = &mut self.database;
        let find = |table, key: &Tuple| database.rows(table).get(key).cloned();
        let had = match &statement {
            Statement::Insert(..) | Statement::Truncate(_) => Vec::new(),
            Statement::Replace { table, key, .. } => find(*table, key).into_iter().collect(),
            Statement::Delete(table, keys) => {
                keys.iter().filter_map(|key| find(*table, key)).collect()
            }
        };
        match &statement {
            Statement::Insert(table, rows) => database.insert(*table, rows)?,
            Statement::Replace { table, key, row, .. } => {
                database.replace(*table, key, row.clone())?;
            }
            Statement::Delete(table, keys) => database.delete(*table, keys)?,
            Statement::Truncate(table) => database.truncate(*table)?,
        }
        done.push(Done { statement, had });
        Ok(())
    }

    /// Whether an update is sent in full, where a story does not care.
    fn in_full(&mut self) -> bool {
        !self.setup.stories.contains(&Story::UpdatePart) || self.random.chance(60)
    }

    fn any_table(&mut self) -> TableId {
        schema().id(self.random.pick(&self.setup.tables))
    }

    fn table_in_use(&self, name: &str) -> Result<TableId, Refusal> {
        let found = self.setup.tables.contains(&name).then(|| schema().id(name));
        found.ok_or_else(nothing_to_do)
    }

    fn any_row(&mut self) -> Result<(TableId, Tuple), Refusal> {
        let table = self.any_table();
        let key = self.any_key_of(table)?;
        Ok((table, key))
    }

    fn any_key_of(&mut self, table: TableId) -> Result<Tuple, Refusal> {
        let keys: Vec<&Tuple> = self.database.rows(table).keys().collect();
        if keys.is_empty() {
            return Err(nothing_to_do());
        }
        Ok(keys[self.random.below(keys.len())].clone())
    }

    fn row(&self, table: TableId, key: &Tuple) -> Tuple {
        self.database.rows(table)[key].clone()
    }

    /// A row that is not there, with values that fit mostly.
    fn new_row(&mut self, id: TableId) -> Tuple {
        let table = schema().catalog.table(id);
        let columns = 0..u16::try_from(table.columns.len()).expect("few columns");
        let mut row: Tuple = columns.map(|column| self.value(table, column)).collect();
        self.stamp(&mut row);
        row
    }

    /// A value for a column.
    fn value(&mut self, table: &Table, column: u16) -> Value {
        if table.key.contains(&column) {
            return Some(self.number(6));
        }
        let nullable = table.column(column).nullable;
        if nullable && self.random.chance(20) {
            return None;
        }
        if let Some(fk) = table.foreign_keys.iter().find(|fk| fk.columns == [column]) {
            let parent = usize::from(fk.parent_columns[0]);
            let parents: Vec<Value> = self
                .database
                .rows(fk.parent)
                .values()
                .map(|row| row[parent])
                .filter(Option::is_some)
                .collect();
            return if parents.is_empty() { None } else { self.random.pick(&parents) };
        }
        let refused = self.setup.limits && table.column(column).name == "a";
        if refused && self.random.chance(25) {
            return Some(-1);
        }
        Some(self.number(5))
    }

    fn number(&mut self, below: usize) -> i64 {
        i64::try_from(self.random.below(below)).expect("a small number")
    }

    /// Marks a row as the newest.
    fn stamp(&mut self, row: &mut Tuple) {
        self.version += 1;
        *row.last_mut().expect("every table has a version") = Some(self.version);
    }

    fn insert_new(&mut self, table: TableId, done: &mut Vec<Done>) -> Result<Tuple, Refusal> {
        let row = self.new_row(table);
        self.run(Statement::Insert(table, vec![row.clone()]), done)?;
        Ok(row)
    }

    fn replace(
        &mut self,
        table: TableId,
        key: &Tuple,
        mut row: Tuple,
        in_full: bool,
        done: &mut Vec<Done>,
    ) -> Result<(), Refusal> {
        self.stamp(&mut row);
        self.run(Statement::Replace { table, key: key.clone(), row, in_full }, done)
    }

    fn update(&mut self, in_full: bool, done: &mut Vec<Done>) -> Result<(), Refusal> {
        let (id, key) = self.any_row()?;
        let table = schema().catalog.table(id);
        let mut row = self.row(id, &key);
        for _ in 0..self.random.within(1, 2) {
            let column = u16::try_from(self.random.below(row.len())).expect("few columns");
            if !table.key.contains(&column) {
                row[usize::from(column)] = self.value(table, column);
            }
        }
        self.replace(id, &key, row, in_full, done)
    }

    fn rekey(&mut self, done: &mut Vec<Done>) -> Result<(), Refusal> {
        let (id, key) = self.any_row()?;
        let table = schema().catalog.table(id);
        // Sent in full, the old row goes before the new one comes. Where a foreign key refers to another
        // column, it has no parent in between, and the product cannot do it.
        let referenced = schema().name(id) == "mail" && self.setup.tables.contains(&"letter");
        let in_full = self.in_full();
        if referenced && in_full {
            return Err(nothing_to_do());
        }
        let mut row = self.row(id, &key);
        let column = self.random.pick(&table.key);
        row[usize::from(column)] = Some(self.number(6));
        self.replace(id, &key, row, in_full, done)
    }

    fn churn(&mut self, done: &mut Vec<Done>) -> Result<(), Refusal> {
        let id = self.any_table();
        let table = schema().catalog.table(id);
        for _ in 0..self.random.within(1, 3) {
            let row = self.new_row(id);
            let key = Database::key_of(table, &row);
            let there = self.database.rows(id).contains_key(&key);
            if there {
                self.run(Statement::Delete(id, vec![key.clone()]), done)?;
            }
            self.run(Statement::Insert(id, vec![row.clone()]), done)?;
            if self.random.chance(50) {
                let in_full = self.in_full();
                self.replace(id, &key, row, in_full, done)?;
            }
            if !there {
                self.run(Statement::Delete(id, vec![key]), done)?;
            }
        }
        Ok(())
    }

    fn exchange(&mut self, back: bool, done: &mut Vec<Done>) -> Result<(), Refusal> {
        let uniques = [("mail", 1), ("pair", 2)];
        let in_use = |(name, _): &(&str, usize)| self.setup.tables.contains(name);
        let Some((name, column)) = uniques.into_iter().find(in_use) else {
            return Err(nothing_to_do());
        };
        let table = schema().id(name);
        let (one, two) = (self.any_key_of(table)?, self.any_key_of(table)?);
        let (row_one, row_two) = (self.row(table, &one), self.row(table, &two));
        let (value_one, value_two) = (row_one[column], row_two[column]);
        if one == two || value_one.is_none() {
            return Err(nothing_to_do());
        }
        let with = |row: &Tuple, value| {
            let mut row = row.clone();
            row[column] = value;
            row
        };
        if !back && self.random.chance(30) {
            self.run(Statement::Delete(table, vec![one]), done)?;
            return self.replace(table, &two, with(&row_two, value_one), true, done);
        }
        let in_full = self.in_full();
        self.replace(table, &one, with(&row_one, None), in_full, done)?;
        self.replace(table, &two, with(&row_two, value_one), in_full, done)?;
        if back {
            self.replace(table, &one, with(&row_one, value_two), in_full, done)?;
        }
        Ok(())
    }

    fn move_children(&mut self, done: &mut Vec<Done>) -> Result<(), Refusal> {
        let child = self.any_table();
        let fks = &schema().catalog.table(child).foreign_keys;
        if fks.is_empty() {
            return Err(nothing_to_do());
        }
        let fk = &fks[self.random.below(fks.len())];
        let old = self.any_key_of(fk.parent)?;
        let old_row = self.row(fk.parent, &old);
        let column = usize::from(fk.columns[0]);
        let value = old_row[usize::from(fk.parent_columns[0])];
        let new = match self.random.below(3) {
            0 => None,
            1 => {
                let row = self.insert_new(fk.parent, done)?;
                row[usize::from(fk.parent_columns[0])]
            }
            _ => {
                let other = self.any_key_of(fk.parent)?;
                self.row(fk.parent, &other)[usize::from(fk.parent_columns[0])]
            }
        };
        let children: Vec<(Tuple, Tuple)> = self
            .database
            .rows(child)
            .iter()
            .filter(|(_, row)| row[column] == value)
            .map(|(key, row)| (key.clone(), row.clone()))
            .collect();
        for (key, mut row) in children {
            row[column] = new;
            self.replace(child, &key, row, true, done)?;
        }
        self.run(Statement::Delete(fk.parent, vec![old]), done)
    }

    fn circle(&mut self, done: &mut Vec<Done>) -> Result<(), Refusal> {
        let (hen, egg) = (self.table_in_use("hen")?, self.table_in_use("egg")?);
        if self.random.chance(40) {
            let key = self.any_key_of(hen)?;
            let row = self.row(hen, &key);
            let laid = row[1].ok_or_else(nothing_to_do)?;
            self.replace(hen, &key, vec![row[0], None, row[2]], true, done)?;
            self.run(Statement::Delete(egg, vec![vec![Some(laid)]]), done)?;
            return self.run(Statement::Delete(hen, vec![key]), done);
        }
        let mut first = self.new_row(hen);
        first[1] = None;
        self.run(Statement::Insert(hen, vec![first.clone()]), done)?;
        let mut second = self.new_row(egg);
        second[1] = first[0];
        self.run(Statement::Insert(egg, vec![second.clone()]), done)?;
        let both = vec![first[0], second[0], first[2]];
        self.replace(hen, &vec![first[0]], both, true, done)
    }

    fn family(&mut self, done: &mut Vec<Done>) -> Result<(), Refusal> {
        let tree = self.table_in_use("tree")?;
        if self.random.chance(50) {
            let (mut above, mut below) = (self.new_row(tree), self.new_row(tree));
            below[1] = above[0];
            above[1] = if self.random.chance(30) { above[0] } else { above[1] };
            return self.run(Statement::Insert(tree, vec![below, above]), done);
        }
        let above = self.any_key_of(tree)?;
        let below = |key: &Tuple, row: &Tuple| row[1] == above[0] && *key != above;
        let all = self.database.rows(tree).iter();
        let mut keys = vec![above.clone()];
        keys.extend(all.filter(|(key, row)| below(key, row)).map(|(key, _)| key.clone()));
        self.run(Statement::Delete(tree, keys), done)
    }

    fn flood(&mut self, done: &mut Vec<Done>) -> Result<(), Refusal> {
        let bulk = self.table_in_use(BULK)?;
        let keys: Vec<Tuple> = self.database.rows(bulk).keys().cloned().collect();
        if FLOOD_KEPT_MAX < keys.len() || !keys.is_empty() && self.random.chance(30) {
            return self.run(Statement::Delete(bulk, keys), done);
        }
        // Checking that a changefeed's transaction is whole takes the square of its rows.
        let most = match self.setup.kind {
            Kind::Ordered => self.random.pick(&[10, 100, 1_000, FLOOD_ROWS_MAX]),
            Kind::Changefeed => self.random.pick(&[10, 100, 1_000]),
        };
        let last = keys.last().and_then(|key| key[0]).unwrap_or(-1);
        // Only the first may be one that the target refuses: each of those costs a search for it.
        let first = self.new_row(bulk);
        let plain = first.iter().map(|value| value.map(i64::abs)).collect::<Tuple>();
        let count = self.random.within(1, most);
        let mut rows: Vec<Tuple> = std::iter::once(first).chain(vec![plain; count - 1]).collect();
        for (key, row) in (last + 1..).zip(&mut rows) {
            row[0] = Some(key);
            self.stamp(row);
        }
        self.run(Statement::Insert(bulk, rows), done)
    }

    fn early(&mut self, done: &mut Vec<Done>) -> Result<(), Refusal> {
        let (parent, late) = (self.table_in_use("parent")?, self.table_in_use("late")?);
        let (above, mut below) = (self.new_row(parent), self.new_row(late));
        below[1] = above[0];
        self.run(Statement::Insert(late, vec![below]), done)?;
        self.run(Statement::Insert(parent, vec![above]), done)
    }
}

fn nothing_to_do() -> Refusal {
    Refusal::Rejected("nothing to do".to_owned())
}
