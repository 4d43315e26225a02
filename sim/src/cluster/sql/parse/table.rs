//! `CREATE TABLE`, as far as the product's own tables and the table of dead letters go.
use super::super::error::SqlError;
use super::super::table::{ColumnDef, Preset, TableDef, UniqueDef};
use super::super::token::Token;
use super::super::value::Type;
use super::Parser;

impl Parser<'_> {
    /// After `CREATE TABLE IF NOT EXISTS`.
    pub(super) fn create_table(&mut self) -> Result<TableDef, SqlError> {
        let name = self.table_name()?;
        let mut table =
            TableDef { name, columns: Vec::new(), uniques: Vec::new(), foreign_keys: Vec::new() };
        self.needs_sign("(")?;
        self.list(|parser| parser.table_part(&mut table))?;
        self.needs_sign(")")?;
        if self.takes("WITH") {
            // How it is stored.
            self.skip_parens()?;
        }
        for unique in &table.uniques {
            for column in &unique.columns {
                table.columns[*column].not_null |= unique.primary;
            }
        }
        Ok(table)
    }

    /// A column or the primary key.
    fn table_part(&mut self, table: &mut TableDef) -> Result<(), SqlError> {
        let named = if self.takes("CONSTRAINT") { Some(self.name()?) } else { None };
        let key_name = named.clone().unwrap_or_else(|| format!("{}_pkey", table.name.table));
        if self.takes("PRIMARY KEY") {
            let columns = self.in_parens(Self::name)?;
            let columns =
                columns.iter().map(|name| table.column(name)).collect::<Result<_, _>>()?;
            table.uniques.push(UniqueDef { name: key_name, columns, primary: true });
            return Ok(());
        }
        if named.is_some() {
            return Err(self.unknown());
        }
        if self.takes("UNIQUE") {
            let names = self.in_parens(Self::name)?;
            let columns = names.iter().map(|name| table.column(name)).collect::<Result<_, _>>()?;
            table.uniques.push(unique(&table.name.table, &names.join("_"), columns));
            return Ok(());
        }
        let name = self.name()?;
        if name == "family" {
            // How CockroachDB stores it.
            self.name()?;
            return self.skip_parens();
        }
        let type_name = self.name()?;
        let base = Type::named(&type_name).ok_or_else(|| self.unknown())?;
        let mut column = ColumnDef { name, of: base.one(), not_null: false, default: None };
        loop {
            if self.takes("NOT NULL") {
                column.not_null = true;
            } else if self.takes("COLLATE") {
                // All texts are compared as bytes here.
                self.name()?;
            } else if self.takes("DEFAULT true") {
                column.default = Some(Preset::Bool(true));
            } else if self.takes("DEFAULT false") {
                column.default = Some(Preset::Bool(false));
            } else if self.takes("DEFAULT md5") {
                // What servers without `gen_random_uuid` make UUIDs of.
                self.skip_parens()?;
                self.needs_sign("::")?;
                self.needs("uuid")?;
                column.default = Some(Preset::Uuid);
            } else if self.takes("UNIQUE") {
                let columns = vec![table.columns.len()];
                table.uniques.push(unique(&table.name.table, &column.name, columns));
            } else if self.takes("DEFAULT now") {
                self.default(&mut column, Preset::Now)?;
            } else if self.takes("DEFAULT gen_random_uuid") {
                self.default(&mut column, Preset::Uuid)?;
            } else if self.takes("PRIMARY KEY") {
                let columns = vec![table.columns.len()];
                table.uniques.push(UniqueDef { name: key_name.clone(), columns, primary: true });
            } else {
                table.columns.push(column);
                return Ok(());
            }
        }
    }

    /// Passes over what is in parentheses.
    fn skip_parens(&mut self) -> Result<(), SqlError> {
        self.needs_sign("(")?;
        let mut depth = 1;
        while depth > 0 {
            let token = self.next()?;
            depth += usize::from(token == Token::Sign("("));
            depth -= usize::from(token == Token::Sign(")"));
        }
        Ok(())
    }

    fn default(&mut self, column: &mut ColumnDef, default: Preset) -> Result<(), SqlError> {
        self.needs_sign("(")?;
        self.needs_sign(")")?;
        column.default = Some(default);
        Ok(())
    }
}

fn unique(table: &str, columns_text: &str, columns: Vec<usize>) -> UniqueDef {
    UniqueDef { name: format!("{table}_{columns_text}_key"), columns, primary: false }
}
