//! Tokens to statements. Knows the grammar that the product uses and nothing more: everything else is
//! refused with its text, so that a gap is seen and not papered over.
mod expr;
mod table;

use replicator_core::model::ident::TableName;

use super::ast::{
    Conflict, Delete, Expr, From, Insert, Item, Rows, Select, Statement, Update, With,
};
use super::error::SqlError;
use super::token::{Token, tokens};

/// Parses the statements of a simple query.
pub(super) fn parse_all(sql: &str) -> Result<Vec<Statement>, SqlError> {
    if is_question(sql) {
        return Ok(vec![Statement::Question(sql.to_owned())]);
    }
    let tokens = tokens(sql)?;
    let parts = tokens.split(|token| *token == Token::Sign(";"));
    let statements = parts.filter(|part| !part.is_empty()).map(|part| {
        let mut parser = Parser { tokens: part, at: 0, sql };
        let statement = parser.statement()?;
        if parser.at == part.len() { Ok(statement) } else { Err(parser.unknown()) }
    });
    let statements = statements.collect::<Result<Vec<_>, _>>()?;
    Ok(if statements.is_empty() { vec![Statement::Empty] } else { statements })
}

/// Parses one statement.
pub(super) fn parse_one(sql: &str) -> Result<Statement, SqlError> {
    let mut statements = parse_all(sql)?;
    match (statements.pop(), statements.is_empty()) {
        (Some(statement), true) => Ok(statement),
        _ => {
            let message = "cannot insert multiple commands into a prepared statement";
            Err(SqlError::new("42601", message))
        }
    }
}

/// Whether it asks for the catalog or the server, which has no tables here.
fn is_question(sql: &str) -> bool {
    let sql = sql.trim_start();
    let marks = ["pg_catalog.", "version()", "current_setting(", "information_schema."];
    let reads = ["SELECT", "WITH"].iter().any(|word| sql.starts_with(word));
    sql.starts_with("SHOW ") || reads && marks.iter().any(|mark| sql.contains(mark))
}

struct Parser<'a> {
    tokens: &'a [Token],
    at: usize,
    sql: &'a str,
}

impl Parser<'_> {
    fn unknown(&self) -> SqlError {
        SqlError::unknown(&format!("at {:?} of {}", self.tokens.get(self.at), self.sql))
    }

    fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.at)
    }

    fn next(&mut self) -> Result<Token, SqlError> {
        let token = self.peek().cloned().ok_or_else(|| self.unknown())?;
        self.at += 1;
        Ok(token)
    }

    /// Takes these keywords if all of them come next.
    fn takes(&mut self, words: &str) -> bool {
        let mut at = self.at;
        for word in words.split(' ') {
            match self.tokens.get(at) {
                Some(Token::Word(next)) if next.eq_ignore_ascii_case(word) => at += 1,
                _ => return false,
            }
        }
        self.at = at;
        true
    }

    fn needs(&mut self, words: &str) -> Result<(), SqlError> {
        if self.takes(words) { Ok(()) } else { Err(self.unknown()) }
    }

    fn takes_sign(&mut self, sign: &str) -> bool {
        let takes = matches!(self.peek(), Some(Token::Sign(next)) if *next == sign);
        self.at += usize::from(takes);
        takes
    }

    fn needs_sign(&mut self, sign: &str) -> Result<(), SqlError> {
        if self.takes_sign(sign) { Ok(()) } else { Err(self.unknown()) }
    }

    fn name(&mut self) -> Result<String, SqlError> {
        match self.next()? {
            Token::Word(name) | Token::Quoted(name) => Ok(name),
            Token::Text(_) | Token::Number(_) | Token::Param(_) | Token::Sign(_) => {
                self.at -= 1;
                Err(self.unknown())
            }
        }
    }

    fn table_name(&mut self) -> Result<TableName, SqlError> {
        let first = self.name()?;
        if !self.takes_sign(".") {
            return Ok(TableName::new("public", &first));
        }
        let second = self.name()?;
        if !self.takes_sign(".") {
            return Ok(TableName::new(&first, &second));
        }
        // A server has one database here.
        Ok(TableName::new(&second, &self.name()?))
    }

    fn alias(&mut self, table: &TableName) -> Result<String, SqlError> {
        if self.takes("AS") { self.name() } else { Ok(table.table.clone()) }
    }

    /// `item, item, …`.
    fn list<T>(
        &mut self,
        mut item: impl FnMut(&mut Self) -> Result<T, SqlError>,
    ) -> Result<Vec<T>, SqlError> {
        let mut list = vec![item(self)?];
        while self.takes_sign(",") {
            list.push(item(self)?);
        }
        Ok(list)
    }

    /// `(item, item, …)`.
    fn in_parens<T>(
        &mut self,
        item: impl FnMut(&mut Self) -> Result<T, SqlError>,
    ) -> Result<Vec<T>, SqlError> {
        self.needs_sign("(")?;
        let list = self.list(item)?;
        self.needs_sign(")")?;
        Ok(list)
    }

    fn statement(&mut self) -> Result<Statement, SqlError> {
        Ok(if self.takes("SELECT") {
            Statement::Select(self.select()?)
        } else if self.takes("INSERT INTO") {
            Statement::Insert(Box::new(self.insert()?))
        } else if self.takes("UPDATE") {
            Statement::Update(self.update()?)
        } else if self.takes("DELETE FROM") {
            let table = self.table_name()?;
            let filter = if self.takes("WHERE") { Some(self.expr()?) } else { None };
            let (order, limit) = (self.order()?, self.limit()?);
            let returning = if self.takes("RETURNING") { self.items()? } else { Vec::new() };
            Statement::Delete(Delete { table, filter, order, limit, returning })
        } else if self.takes("WITH") {
            let name = self.name()?;
            self.needs("AS")?;
            self.needs_sign("(")?;
            let first = self.statement()?;
            self.needs_sign(")")?;
            Statement::With(Box::new(With { name, first, then: self.statement()? }))
        } else if self.takes("COPY") {
            let table = self.table_name()?;
            let columns = self.in_parens(Self::name)?;
            self.needs("FROM STDIN")?;
            Statement::Copy { table, columns }
        } else if self.takes("CREATE SCHEMA IF NOT EXISTS") {
            let name = self.table_name()?;
            // Of a name with two parts the first is the database.
            Statement::CreateSchema(name.table)
        } else if self.takes("CREATE DATABASE IF NOT EXISTS") {
            self.name()?;
            Statement::CreateDatabase
        } else if self.takes("CREATE INDEX IF NOT EXISTS") {
            self.at = self.tokens.len();
            Statement::CreateIndex
        } else if self.takes("LOCK TABLE") {
            let table = self.table_name()?;
            self.needs("IN SHARE ROW EXCLUSIVE MODE")?;
            Statement::Lock(table)
        } else if self.takes("ALTER TABLE") {
            let table = self.table_name()?;
            self.needs("ADD COLUMN IF NOT EXISTS")?;
            let column = self.name()?;
            self.at = self.tokens.len();
            Statement::HasColumn(table, column)
        } else if self.takes("CREATE TABLE") {
            self.takes("IF NOT EXISTS");
            Statement::CreateTable(Box::new(self.create_table()?))
        } else {
            self.transaction_statement()?
        })
    }

    fn transaction_statement(&mut self) -> Result<Statement, SqlError> {
        Ok(if self.takes("BEGIN") {
            Statement::Begin
        } else if self.takes("COMMIT") {
            Statement::Commit
        } else if self.takes("ROLLBACK TO SAVEPOINT") {
            Statement::RollbackTo(self.name()?)
        } else if self.takes("ROLLBACK") {
            Statement::Rollback
        } else if self.takes("SAVEPOINT") {
            Statement::Savepoint(self.name()?)
        } else if self.takes("RELEASE SAVEPOINT") {
            Statement::Release(self.name()?)
        } else if self.takes("SET CONSTRAINTS ALL DEFERRED") {
            Statement::Defer
        } else {
            return Err(self.unknown());
        })
    }

    /// After the word SELECT.
    fn select(&mut self) -> Result<Select, SqlError> {
        let distinct = if self.takes("DISTINCT ON") {
            Some(self.in_parens(Self::expr)?)
        } else {
            self.takes("DISTINCT").then(Vec::new)
        };
        let items = self.items()?;
        let from = if self.takes("FROM") { self.list(Self::from)? } else { Vec::new() };
        let filter = if self.takes("WHERE") { Some(self.expr()?) } else { None };
        let (order, limit) = (self.order()?, self.limit()?);
        let share = self.takes("FOR SHARE");
        Ok(Select { distinct, items, from, filter, order, limit, share })
    }

    fn order(&mut self) -> Result<Vec<(Expr, bool)>, SqlError> {
        let one = |parser: &mut Self| Ok((parser.expr()?, parser.takes("DESC")));
        if self.takes("ORDER BY") { self.list(one) } else { Ok(Vec::new()) }
    }

    fn limit(&mut self) -> Result<Option<Expr>, SqlError> {
        if self.takes("LIMIT") { self.expr().map(Some) } else { Ok(None) }
    }

    fn items(&mut self) -> Result<Vec<Item>, SqlError> {
        self.list(|parser| {
            let expr = parser.expr()?;
            let name = if parser.takes("AS") { parser.name()? } else { expr.name() };
            Ok(Item { expr, name })
        })
    }

    fn from(&mut self) -> Result<From, SqlError> {
        let lateral = self.takes("LATERAL");
        if self.takes_sign("(") {
            let queries = self.queries()?;
            self.needs_sign(")")?;
            self.needs("AS")?;
            return Ok(From::Select { queries, alias: self.name()? });
        }
        if self.takes("unnest") {
            let lists = self.in_parens(Self::expr)?;
            self.needs("AS")?;
            let alias = self.name()?;
            let columns = self.in_parens(Self::name)?;
            return Ok(From::Unnest { lists, alias, columns });
        }
        if lateral {
            return Err(self.unknown());
        }
        let name = self.table_name()?;
        Ok(From::Table { alias: self.alias(&name)?, name })
    }

    /// `SELECT …`, or several in parentheses with `UNION ALL` between them.
    fn queries(&mut self) -> Result<Vec<Select>, SqlError> {
        if self.takes("SELECT") {
            return Ok(vec![self.select()?]);
        }
        let mut queries = Vec::new();
        loop {
            self.needs_sign("(")?;
            self.needs("SELECT")?;
            queries.push(self.select()?);
            self.needs_sign(")")?;
            if !self.takes("UNION ALL") {
                return Ok(queries);
            }
        }
    }

    fn insert(&mut self) -> Result<Insert, SqlError> {
        let table = self.table_name()?;
        let alias = self.alias(&table)?;
        let columns = self.in_parens(Self::name)?;
        self.takes("OVERRIDING SYSTEM VALUE");
        let rows = if self.takes("VALUES") {
            Rows::Values(self.list(|parser| parser.in_parens(Self::expr))?)
        } else {
            self.needs("SELECT")?;
            Rows::Select(self.select()?)
        };
        let conflict = if self.takes("ON CONFLICT") { Some(self.conflict()?) } else { None };
        let returning = if self.takes("RETURNING") { self.items()? } else { Vec::new() };
        Ok(Insert { table, alias, columns, rows, conflict, returning })
    }

    fn conflict(&mut self) -> Result<Conflict, SqlError> {
        let named = self.peek() == Some(&Token::Sign("("));
        let columns = if named { self.in_parens(Self::name)? } else { Vec::new() };
        if self.takes("DO NOTHING") {
            return Ok(Conflict { columns, set: Vec::new(), filter: None });
        }
        self.needs("DO UPDATE SET")?;
        let set = self.list(Self::assignment)?;
        let filter = if self.takes("WHERE") { Some(self.expr()?) } else { None };
        Ok(Conflict { columns, set, filter })
    }

    fn assignment(&mut self) -> Result<(String, Expr), SqlError> {
        let name = self.name()?;
        self.needs_sign("=")?;
        Ok((name, self.expr()?))
    }

    fn update(&mut self) -> Result<Update, SqlError> {
        let table = self.table_name()?;
        let alias = self.alias(&table)?;
        self.needs("SET")?;
        let set = self.list(Self::assignment)?;
        let from = if self.takes("FROM") { self.list(Self::from)? } else { Vec::new() };
        let filter = if self.takes("WHERE") { Some(self.expr()?) } else { None };
        let returning = if self.takes("RETURNING") { self.items()? } else { Vec::new() };
        Ok(Update { table, alias, set, from, filter, returning })
    }
}

#[cfg(test)]
mod tests {
    use super::{Statement, parse_all, parse_one};

    #[test]
    fn what_is_not_understood_is_refused_with_its_text() {
        for sql in ["VACUUM", "SELECT 1 OFFSET 1", "DELETE FROM t USING u", "LOCK TABLE t"] {
            let error = parse_one(sql).unwrap_err();
            assert_eq!(error.code, "0A000", "{sql}");
            assert!(error.message.contains(sql), "{error:?}");
        }
    }

    #[test]
    fn a_simple_query_may_hold_many_statements_and_a_prepared_one_only_one() {
        let both = "BEGIN; COMMIT;";
        let statements = parse_all(both).unwrap();
        assert!(matches!(statements[..], [Statement::Begin, Statement::Commit]));
        assert_eq!(parse_one(both).unwrap_err().code, "42601");
        assert!(matches!(parse_one(""), Ok(Statement::Empty)));
    }
}
