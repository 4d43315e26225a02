//! One connection that changes the shop, one random transaction after the other.
use anyhow::{Context as _, Result};
use replicator_io::mysql::conninfo::MySqlConnInfo;
use replicator_io::mysql::replica::ReplicaSession;
use replicator_io::net::TcpDial;

use crate::random::Random;
use crate::workload::{REGIONS, SEATS};

/// Keys of rows made by writers begin here; each has so many for itself.
const KEY_FIRST: u64 = 1_000_000_000;
const KEYS: u64 = 100_000_000;
/// Rows of one kind that a writer keeps; then it only changes and deletes.
const ORDERS_MAX: usize = 2_000;
const FAMILIES_MAX: usize = 100;
const DOCUMENTS_MAX: usize = 100;
const BODY_LETTERS: usize = 6_000;

/// A connection that runs statements.
#[derive(Debug)]
pub(super) struct Connection(ReplicaSession<TcpDial>);

impl Connection {
    pub(super) async fn open(conninfo: &str) -> Result<Self> {
        let conninfo: MySqlConnInfo = conninfo.parse()?;
        let mut connection = Self(ReplicaSession::open(&TcpDial, &conninfo).await?);
        connection.run(&format!("USE {}", conninfo.database)).await?;
        Ok(connection)
    }

    pub(super) async fn run(&mut self, sql: &str) -> Result<()> {
        self.0.query(sql).await.with_context(|| sql.to_owned()).map(drop)
    }

    pub(super) async fn number(&mut self, sql: &str) -> Result<u64> {
        let rows = self.0.query(sql).await.with_context(|| sql.to_owned())?;
        let cell = rows.first().and_then(|row| row.first()).cloned().flatten();
        Ok(cell.context("no number")?.parse()?)
    }
}

/// One connection that changes rows of its own, and refers to rows that nobody deletes.
#[derive(Debug)]
pub(super) struct Writer {
    connection: Connection,
    random: Random,
    number: u32,
    key: u64,
    accounts: Vec<u64>,
    products: u64,
    orders: Vec<(u64, Vec<u64>)>,
    families: Vec<(u64, Vec<u64>)>,
    seats: Vec<u64>,
    documents: Vec<u64>,
    rows: u64,
}

impl Writer {
    pub(super) async fn connect(
        conninfo: &str,
        number: u32,
        of: u32,
        random: Random,
    ) -> Result<Self> {
        let mut connection = Connection::open(conninfo).await?;
        let (own, of) = (u64::from(number), u64::from(of));
        let least = KEY_FIRST + own * KEYS;
        // Another load may have been here.
        let used = format!(
            "SELECT COALESCE(MAX(k), {least}) FROM (SELECT entry k FROM journal UNION ALL SELECT id FROM orders UNION \
             ALL SELECT id FROM category UNION ALL SELECT id FROM document UNION ALL SELECT id FROM shipment) keys_used \
             WHERE k BETWEEN {least} AND {least} + {KEYS} - 1"
        );
        let key = connection.number(&used).await?;
        let accounts = connection.number("SELECT MAX(id) FROM account").await?;
        let products = connection.number("SELECT MAX(id) FROM product").await?;
        let share = |most: u64| (1..=most).filter(|id| id % of == own).collect::<Vec<u64>>();
        Ok(Self {
            connection,
            random,
            number,
            key,
            accounts: share(accounts),
            products,
            orders: Vec::new(),
            families: Vec::new(),
            seats: share(u64::from(SEATS)),
            documents: Vec::new(),
            rows: 0,
        })
    }

    /// Commits one transaction. Returns about how many rows it changed.
    pub(super) async fn transaction(&mut self) -> Result<u64> {
        self.rows = 0;
        self.connection.run("BEGIN").await?;
        match self.random.between(0, 999) {
            0..340 if self.orders.len() < ORDERS_MAX => self.place_order().await?,
            0..460 => self.delete_order().await?,
            460..660 => self.advance_order().await?,
            660..720 => self.renumber_line().await?,
            720..830 => self.change_account().await?,
            830..834 => self.swap_emails().await?,
            834..838 => self.change_seat().await?,
            838..890 => self.change_category().await?,
            890..980 => self.change_document().await?,
            980..990 => self.change_product().await?,
            _ => self.rename_region().await?,
        }
        self.connection.run("COMMIT").await?;
        Ok(self.rows)
    }

    fn next_key(&mut self) -> u64 {
        self.key += 1;
        self.key
    }

    /// Runs a statement that changes about so many rows.
    async fn run(&mut self, rows: u64, sql: &str) -> Result<()> {
        self.rows += rows;
        self.connection.run(sql).await
    }

    async fn enter(&mut self, what: &str) -> Result<()> {
        let (writer, entry) = (self.number, self.next_key());
        let sql =
            format!("INSERT INTO journal VALUES ({writer}, {entry}, UTC_TIMESTAMP(6), '{what}')");
        self.run(1, &sql).await
    }

    fn account(&mut self) -> u64 {
        self.accounts[self.random.index(self.accounts.len())]
    }

    async fn place_order(&mut self) -> Result<()> {
        let (id, account) = (self.next_key(), self.account());
        let gift = if self.random.chance(30) {
            self.random.between(1, self.products).to_string()
        } else {
            "NULL".to_owned()
        };
        let sql = format!(
            "INSERT INTO orders VALUES ({id}, {account}, {gift}, 'placed', UTC_TIMESTAMP(6), NULL)"
        );
        self.run(1, &sql).await?;
        let lines: Vec<u64> = (1..=self.random.between(1, 6)).collect();
        let mut values = Vec::new();
        for line in &lines {
            let product = self.random.between(1, self.products);
            values.push(format!("({id}, {line}, {product}, {line} * 2, {line} * 2.25)"));
        }
        let sql = format!(
            "INSERT INTO order_line (order_id, line_no, product_id, quantity, price) VALUES {}",
            values.join(", ")
        );
        self.run(lines.len() as u64, &sql).await?;
        if self.random.chance(40) {
            let shipment = self.next_key();
            let sql = format!(
                "INSERT INTO shipment VALUES ({shipment}, {id}, 1, 0.1, {}, UTC_DATE())",
                self.random.chance(50)
            );
            self.run(1, &sql).await?;
        }
        self.orders.push((id, lines));
        self.enter("order placed").await
    }

    /// The lines and the shipment go with it, by the foreign keys.
    async fn delete_order(&mut self) -> Result<()> {
        if self.orders.is_empty() {
            return self.place_order().await;
        }
        let (id, lines) = self.orders.swap_remove(self.random.index(self.orders.len()));
        self.run(1 + lines.len() as u64, &format!("DELETE FROM orders WHERE id = {id}")).await?;
        self.enter("order deleted").await
    }

    async fn advance_order(&mut self) -> Result<()> {
        if self.orders.is_empty() {
            return self.place_order().await;
        }
        let (id, lines) = self.orders[self.random.index(self.orders.len())].clone();
        let status = ["paid", "packed", "shipped", "returned"][self.random.index(4)];
        self.run(1, &format!("UPDATE orders SET status = '{status}' WHERE id = {id}")).await?;
        let sql = format!("UPDATE order_line SET quantity = quantity + 1 WHERE order_id = {id}");
        self.run(lines.len() as u64, &sql).await?;
        self.enter("order advanced").await
    }

    /// A key change; a shipment of the line follows, by its foreign key.
    async fn renumber_line(&mut self) -> Result<()> {
        if self.orders.is_empty() {
            return self.place_order().await;
        }
        let index = self.random.index(self.orders.len());
        let (id, lines) = &mut self.orders[index];
        let line = &mut lines[0];
        let (id, from, to) = (*id, *line, *line + 100);
        *line = to;
        let sql = format!(
            "UPDATE order_line SET line_no = {to} WHERE order_id = {id} AND line_no = {from}"
        );
        self.run(1, &sql).await?;
        self.enter("line renumbered").await
    }

    async fn change_account(&mut self) -> Result<()> {
        let (id, cents, note) =
            (self.account(), self.random.between(0, 100_000), self.random.text(5));
        let sql = format!(
            "UPDATE account SET balance = balance + {cents} / 100, tags = JSON_ARRAY('{note}', {cents}), \
             profile = JSON_OBJECT('last', {cents}, 'deep', JSON_ARRAY(1.5, NULL, '{note}')) WHERE id = {id}"
        );
        self.run(1, &sql).await?;
        self.enter("account changed").await
    }

    /// Two rows trade a unique value, by way of a third one: no order of their end states is right.
    async fn swap_emails(&mut self) -> Result<()> {
        let (one, other) = (self.account(), self.account());
        if one == other {
            return self.change_account().await;
        }
        let sql = format!("SELECT email INTO @one FROM account WHERE id = {one}");
        self.run(0, &sql).await?;
        self.run(0, &format!("SELECT email INTO @other FROM account WHERE id = {other}")).await?;
        for (id, email) in [(one, "CONCAT(@one, ' moves')"), (other, "@one"), (one, "@other")] {
            self.run(1, &format!("UPDATE account SET email = {email} WHERE id = {id}")).await?;
        }
        self.enter("emails swapped").await
    }

    /// A holder moves to another seat, which its own holder has to leave first.
    async fn change_seat(&mut self) -> Result<()> {
        let from = self.seats[self.random.index(self.seats.len())];
        let to = self.seats[self.random.index(self.seats.len())];
        self.run(0, &format!("SELECT holder INTO @holder FROM seat WHERE id = {from}")).await?;
        for id in [from, to] {
            let sql = format!("UPDATE seat SET holder = NULL, taken = taken + 1 WHERE id = {id}");
            self.run(1, &sql).await?;
        }
        let newcomer = self.next_key();
        let sql = format!(
            "UPDATE seat SET holder = COALESCE(@holder, 'holder{newcomer}') WHERE id = {to}"
        );
        self.run(1, &sql).await
    }

    async fn change_category(&mut self) -> Result<()> {
        if self.families.len() < 2 || (self.families.len() < FAMILIES_MAX && self.random.chance(40))
        {
            let head = self.next_key();
            let children: Vec<u64> =
                (0..self.random.between(1, 4)).map(|_| self.next_key()).collect();
            let child = |id: &u64| format!("({id}, {head}, 'category {id}')");
            let mut values: Vec<String> = children.iter().map(child).collect();
            values.push(format!("({head}, 1, 'category {head}')"));
            let sql = format!("INSERT INTO category VALUES {}", values.join(", "));
            self.run(values.len() as u64, &sql).await?;
            self.families.push((head, children));
            return Ok(());
        }
        let index = self.random.index(self.families.len());
        if self.random.chance(30) {
            let (head, children) = self.families.swap_remove(index);
            let sql = format!("DELETE FROM category WHERE id = {head} OR parent_id = {head}");
            return self.run(1 + children.len() as u64, &sql).await;
        }
        let to = self.random.index(self.families.len());
        let Some(child) = self.families[index].1.pop() else {
            return self.rename_region().await;
        };
        self.families[to].1.push(child);
        let head = self.families[to].0;
        self.run(1, &format!("UPDATE category SET parent_id = {head} WHERE id = {child}")).await
    }

    async fn change_document(&mut self) -> Result<()> {
        let is_new = self.documents.is_empty() || self.random.chance(15);
        if is_new && self.documents.len() < DOCUMENTS_MAX {
            let (id, account) = (self.next_key(), self.account());
            let body = self.random.text(BODY_LETTERS);
            self.documents.push(id);
            let sql =
                format!("INSERT INTO document VALUES ({id}, {account}, 'draft', 1, '{body}')");
            return self.run(1, &sql).await;
        }
        let index = self.random.index(self.documents.len());
        let id = self.documents[index];
        let sql = match self.random.between(0, 9) {
            0 => {
                self.documents.swap_remove(index);
                format!("DELETE FROM document WHERE id = {id}")
            }
            1 => {
                let to = self.next_key();
                self.documents[index] = to;
                format!("UPDATE document SET id = {to} WHERE id = {id}")
            }
            2 => {
                format!("UPDATE document SET body = NULL, revision = revision + 1 WHERE id = {id}")
            }
            _ => {
                let title = self.random.text(12);
                format!(
                    "UPDATE document SET title = '{title}', revision = revision + 1 WHERE id = {id}"
                )
            }
        };
        self.run(1, &sql).await
    }

    async fn change_product(&mut self) -> Result<()> {
        // Everybody's: so it is the one statement of its transaction that may wait for a row.
        let id = self.random.between(1, self.products);
        let picture = self.random.text(40);
        let sql = format!(
            "UPDATE product SET price = price + 0.01, picture = '{picture}', weights = JSON_ARRAY(0.1, price) \
             WHERE id = {id}"
        );
        self.run(1, &sql).await
    }

    async fn rename_region(&mut self) -> Result<()> {
        let (id, name) = (self.random.between(1, u64::from(REGIONS)), self.random.text(8));
        self.run(1, &format!("UPDATE region SET name = '{name}' WHERE id = {id}")).await
    }
}
