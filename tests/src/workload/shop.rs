//! What a writer knows of its rows, and the transactions it can make of them.
use anyhow::{Context as _, Result};
use tokio_postgres::types::Type;
use tokio_postgres::{Client, Row};

use super::REGIONS;
use super::writer::{Share, Step};
use crate::random::Random;

/// Keys of rows made by writers begin here, above those of the first rows.
const KEY_FIRST: i64 = 1_000_000_000;
/// Keys that a writer leaves free above the greatest one it finds.
const KEY_ROOM: i64 = 1_000_000;
/// The category above all others, made with the first rows.
const CATEGORY_ROOT: i64 = 1;
/// Orders, families of categories and documents that a writer keeps; then it only changes and deletes.
const ORDERS_MAX: usize = 5_000;
const FAMILIES_MAX: usize = 200;
const DOCUMENTS_MAX: usize = 300;
/// A body is this long: far above the 2 kB from which PostgreSQL stores a value out of line
/// (documentation, "TOAST").
const BODY_LETTERS: usize = 6_000;

/// The rows of one writer.
#[derive(Debug)]
pub(super) struct Shop {
    share: Share,
    key_next: i64,
    accounts: Vec<Account>,
    products: Vec<i64>,
    orders: Vec<Order>,
    families: Vec<Family>,
    seats: Vec<Seat>,
    documents: Vec<i64>,
}

#[derive(Debug)]
struct Order {
    id: i64,
    lines: Vec<i32>,
    /// The line that has a shipment.
    shipped: Option<i32>,
}

#[derive(Debug)]
struct Account {
    id: i64,
    email: String,
}

#[derive(Debug)]
struct Family {
    head: i64,
    children: Vec<i64>,
}

#[derive(Debug)]
struct Seat {
    id: i32,
    holder: Option<String>,
}

impl Shop {
    /// Looks up the rows that are this writer's.
    pub(super) async fn open(client: &Client, share: Share) -> Result<Self> {
        let own = async |columns: &str, table: &str| {
            // $1 = how many writers there are, $2 = this one.
            let sql = format!("SELECT {columns} FROM {table} WHERE id % $1 = $2 ORDER BY id");
            let (of, number) = (i64::from(share.of), i64::from(share.number));
            client.query_typed(&sql, &[(&of, Type::INT8), (&number, Type::INT8)]).await
        };
        let accounts = own("id, email", "account").await?;
        let products = own("id", "product").await?;
        let orders = own(
            "id, array(SELECT line_no FROM order_line WHERE order_id = orders.id),
             (SELECT line_no FROM shipment WHERE order_id = orders.id)",
            "orders",
        )
        .await?;
        let seats = own("id, holder", "seat").await?;
        let documents = own("id", "document").await?;
        let order = |row: &Row| Order { id: row.get(0), lines: row.get(1), shipped: row.get(2) };
        // $1 = the least key to begin with.
        let last =
            "SELECT greatest($1, (SELECT max(id) FROM account), (SELECT max(id) FROM orders),
                           (SELECT max(id) FROM shipment), (SELECT max(id) FROM category),
                           (SELECT max(id) FROM document), (SELECT max(entry) FROM journal))";
        let last = client.query_typed(last, &[(&KEY_FIRST, Type::INT8)]).await?;
        let last: i64 = last.first().context("an aggregate has a row")?.get(0);
        Ok(Self {
            share,
            // Writers that connect at the same time may look while the first ones already write, so
            // each leaves room; what counts is the remainder, which is the writer's own.
            key_next: (last + KEY_ROOM) / i64::from(share.of) * i64::from(share.of)
                + i64::from(share.number),
            accounts: accounts.iter().map(|r| Account { id: r.get(0), email: r.get(1) }).collect(),
            products: products.iter().map(|row| row.get(0)).collect(),
            orders: orders.iter().map(order).collect(),
            families: Vec::new(),
            seats: seats.iter().map(|r| Seat { id: r.get(0), holder: r.get(1) }).collect(),
            documents: documents.iter().map(|row| row.get(0)).collect(),
        })
    }

    /// Makes one random change of one random kind.
    pub(super) async fn change(&mut self, step: &mut Step<'_>, random: &mut Random) -> Result<()> {
        // Of a thousand. Values that wander are as rare as in a real shop: hundreds in a minute.
        match random.between(0, 999) {
            0..340 if self.orders.len() < ORDERS_MAX => self.place_order(step, random).await,
            0..460 => self.delete_order(step, random).await,
            460..660 => self.advance_order(step, random).await,
            660..720 => self.renumber_line(step, random).await,
            720..830 => self.change_account(step, random).await,
            830..834 => self.swap_emails(step, random).await,
            834..838 => self.change_seat(step, random).await,
            838..890 => self.change_category(step, random).await,
            890..980 => self.change_document(step, random).await,
            980..990 => self.change_product(step, random).await,
            _ => self.rename_region(step, random).await,
        }
    }

    fn key(&mut self) -> i64 {
        self.key_next += i64::from(self.share.of);
        self.key_next
    }

    /// A line in the journal: the trace that nearly every transaction leaves.
    async fn enter(&mut self, step: &mut Step<'_>, what: &str) -> Result<()> {
        let writer = i32::try_from(self.share.number)?;
        let entry = self.key();
        step.run(
            "INSERT INTO journal VALUES ($1, $2, clock_timestamp(), $3)",
            &[&writer, &entry, &what],
        )
        .await
    }

    /// An order with its lines, sometimes of an account that is opened in the same transaction.
    async fn place_order(&mut self, step: &mut Step<'_>, random: &mut Random) -> Result<()> {
        if random.chance(10) {
            self.open_account(step, random).await?;
        }
        let id = self.key();
        let account = self.accounts[random.index(self.accounts.len())].id;
        let gift = random.chance(30).then(|| self.products[random.index(self.products.len())]);
        step.run(
            "INSERT INTO orders VALUES ($1, $2, $3, 'placed', clock_timestamp(), $4)",
            &[&id, &account, &gift, &random.chance(20).then(|| random.text(20))],
        )
        .await?;
        let lines: Vec<i32> = (1..=i32::try_from(random.between(1, 6))?).collect();
        let products: Vec<i64> =
            lines.iter().map(|_| self.products[random.index(self.products.len())]).collect();
        let prices: Vec<f64> = lines.iter().map(|line| f64::from(*line) * 2.25).collect();
        step.run(
            "INSERT INTO order_line (order_id, line_no, product_id, quantity, price)
             SELECT $1, line, product, line * 2, price::numeric
             FROM unnest($2::int[], $3::bigint[], $4::float8[]) AS t (line, product, price)",
            &[&id, &lines, &products, &prices],
        )
        .await?;
        let shipped = random.chance(40).then_some(1);
        if let Some(line) = shipped {
            let (shipment, insured) = (self.key(), random.chance(50));
            step.run(
                "INSERT INTO shipment VALUES ($1, $2, $3, 0.1::real, $4, current_date)",
                &[&shipment, &id, &line, &insured],
            )
            .await?;
        }
        self.orders.push(Order { id, lines, shipped });
        self.enter(step, "order placed").await
    }

    /// The lines and the shipment go with it, by the foreign keys.
    async fn delete_order(&mut self, step: &mut Step<'_>, random: &mut Random) -> Result<()> {
        if self.orders.is_empty() {
            return self.place_order(step, random).await;
        }
        let order = self.orders.swap_remove(random.index(self.orders.len()));
        step.run("DELETE FROM orders WHERE id = $1", &[&order.id]).await?;
        step.count(order.lines.len() as u64 + u64::from(order.shipped.is_some()));
        self.enter(step, "order deleted").await
    }

    async fn advance_order(&mut self, step: &mut Step<'_>, random: &mut Random) -> Result<()> {
        if self.orders.is_empty() {
            return self.place_order(step, random).await;
        }
        let id = self.orders[random.index(self.orders.len())].id;
        let status = ["paid", "packed", "shipped", "returned"][random.index(4)];
        step.run(
            "UPDATE orders SET status = $2::text::order_status WHERE id = $1",
            &[&id, &status],
        )
        .await?;
        step.run("UPDATE order_line SET quantity = quantity + 1 WHERE order_id = $1", &[&id])
            .await?;
        self.enter(step, "order advanced").await
    }

    /// A key change; a shipment of the line follows, by its foreign key.
    async fn renumber_line(&mut self, step: &mut Step<'_>, random: &mut Random) -> Result<()> {
        if self.orders.is_empty() {
            return self.place_order(step, random).await;
        }
        let index = random.index(self.orders.len());
        let order = &mut self.orders[index];
        let at = random.index(order.lines.len());
        let (from, to) = (order.lines[at], order.lines[at] + 100);
        step.run(
            "UPDATE order_line SET line_no = $3 WHERE order_id = $1 AND line_no = $2",
            &[&order.id, &from, &to],
        )
        .await?;
        order.lines[at] = to;
        if order.shipped == Some(from) {
            order.shipped = Some(to);
            step.count(1);
        }
        self.enter(step, "line renumbered").await
    }

    async fn open_account(&mut self, step: &mut Step<'_>, random: &mut Random) -> Result<()> {
        let id = self.key();
        let email = format!("{}{id}@example.org", random.text(6));
        let region = i32::try_from(random.between(1, u64::from(REGIONS)))?;
        step.run(
            "INSERT INTO account VALUES ($1, $2, $3, 0, '{}', NULL, clock_timestamp())",
            &[&id, &region, &email],
        )
        .await?;
        self.accounts.push(Account { id, email });
        Ok(())
    }

    async fn change_account(&mut self, step: &mut Step<'_>, random: &mut Random) -> Result<()> {
        let id = self.accounts[random.index(self.accounts.len())].id;
        let cents = i64::try_from(random.between(0, 100_000))?;
        step.run(
            "UPDATE account SET balance = balance + $2::bigint / 100.0, tags = array_append(tags[1:3], $3),
             profile = jsonb_build_object('last', $2::bigint, 'note', $3, 'deep', jsonb_build_array(1.50, NULL, $3))
             WHERE id = $1",
            &[&id, &cents, &random.text(5)],
        )
        .await?;
        self.enter(step, "account changed").await
    }

    /// Two rows trade a unique value, by way of a third one: no order of their end states is right.
    async fn swap_emails(&mut self, step: &mut Step<'_>, random: &mut Random) -> Result<()> {
        let first = random.index(self.accounts.len());
        let second = random.index(self.accounts.len());
        if first == second {
            return self.change_account(step, random).await;
        }
        let set = "UPDATE account SET email = $2 WHERE id = $1";
        let (one, other) = (&self.accounts[first], &self.accounts[second]);
        step.run(set, &[&one.id, &format!("{} moves", one.email)]).await?;
        step.run(set, &[&other.id, &one.email]).await?;
        step.run(set, &[&one.id, &other.email]).await?;
        let email = std::mem::take(&mut self.accounts[first].email);
        let email = std::mem::replace(&mut self.accounts[second].email, email);
        self.accounts[first].email = email;
        self.enter(step, "emails swapped").await
    }

    /// A holder moves to another seat, which its own holder has to leave first.
    async fn change_seat(&mut self, step: &mut Step<'_>, random: &mut Random) -> Result<()> {
        let from = random.index(self.seats.len());
        let to = random.index(self.seats.len());
        let set = "UPDATE seat SET holder = $2, taken = taken + 1 WHERE id = $1";
        let nobody: Option<String> = None;
        step.run(set, &[&self.seats[to].id, &nobody]).await?;
        self.seats[to].holder = None;
        let holder = match self.seats[from].holder.take() {
            Some(holder) => {
                step.run(set, &[&self.seats[from].id, &nobody]).await?;
                holder
            }
            None => format!("holder{}", self.key()),
        };
        step.run(set, &[&self.seats[to].id, &holder]).await?;
        self.seats[to].holder = Some(holder);
        Ok(())
    }

    async fn change_category(&mut self, step: &mut Step<'_>, random: &mut Random) -> Result<()> {
        if self.families.len() < 2 || (self.families.len() < FAMILIES_MAX && random.chance(40)) {
            return self.add_family(step, random).await;
        }
        let index = random.index(self.families.len());
        if random.chance(30) {
            // Parent and children in one statement, in whatever order the rows lie.
            let family = self.families.swap_remove(index);
            let ids: Vec<i64> = family.children.iter().copied().chain([family.head]).collect();
            return step.run("DELETE FROM category WHERE id = ANY ($1)", &[&ids]).await;
        }
        let Some(child) = self.families[index].children.pop() else {
            return self.add_family(step, random).await;
        };
        let to = random.index(self.families.len());
        self.families[to].children.push(child);
        let head = self.families[to].head;
        step.run("UPDATE category SET parent_id = $2 WHERE id = $1", &[&child, &head]).await
    }

    async fn add_family(&mut self, step: &mut Step<'_>, random: &mut Random) -> Result<()> {
        let head = self.key();
        let children: Vec<i64> = (0..random.between(1, 4)).map(|_| self.key()).collect();
        // Children first: a statement may do that, because it is checked at its end.
        let mut rows: Vec<(i64, i64)> = children.iter().map(|child| (*child, head)).collect();
        rows.push((head, CATEGORY_ROOT));
        let (ids, parents): (Vec<i64>, Vec<i64>) = rows.into_iter().unzip();
        self.families.push(Family { head, children });
        step.run(
            "INSERT INTO category SELECT id, parent, 'category ' || id
             FROM unnest($1::bigint[], $2::bigint[]) AS t (id, parent)",
            &[&ids, &parents],
        )
        .await
    }

    async fn change_document(&mut self, step: &mut Step<'_>, random: &mut Random) -> Result<()> {
        if self.documents.is_empty() || (self.documents.len() < DOCUMENTS_MAX && random.chance(15))
        {
            let id = self.key();
            self.documents.push(id);
            let account = self.accounts[random.index(self.accounts.len())].id;
            let body = random.text(BODY_LETTERS);
            return step
                .run(
                    "INSERT INTO document VALUES ($1, $2, 'draft', 1, $3)",
                    &[&id, &account, &body],
                )
                .await;
        }
        let index = random.index(self.documents.len());
        let id = self.documents[index];
        match random.between(0, 9) {
            0 => {
                self.documents.swap_remove(index);
                step.run("DELETE FROM document WHERE id = $1", &[&id]).await
            }
            1 | 2 => {
                let body = random.chance(90).then(|| random.text(BODY_LETTERS));
                step.run(
                    "UPDATE document SET body = $2, revision = revision + 1 WHERE id = $1",
                    &[&id, &body],
                )
                .await
            }
            3 if random.chance(10) => {
                // Another key, and a body that the stream does not repeat.
                let to = self.key();
                self.documents[index] = to;
                step.run("UPDATE document SET id = $2 WHERE id = $1", &[&id, &to]).await
            }
            _ => {
                let title = random.text(12);
                step.run(
                    "UPDATE document SET title = $2, revision = revision + 1 WHERE id = $1",
                    &[&id, &title],
                )
                .await
            }
        }
    }

    async fn change_product(&mut self, step: &mut Step<'_>, random: &mut Random) -> Result<()> {
        let id = self.products[random.index(self.products.len())];
        let picture = random.text(40).into_bytes();
        step.run(
            "UPDATE product SET price = price + 0.01, picture = $2, weights = ARRAY[0.1::float8, 'NaN', price]
             WHERE id = $1",
            &[&id, &picture],
        )
        .await?;
        self.enter(step, "product changed").await
    }

    /// The one change that writers share rows in: one row and nothing else, so that nobody waits for
    /// a row while holding one.
    async fn rename_region(&self, step: &mut Step<'_>, random: &mut Random) -> Result<()> {
        let id = i32::try_from(random.between(1, u64::from(REGIONS)))?;
        step.run("UPDATE region SET name = $2 WHERE id = $1", &[&id, &random.text(8)]).await
    }
}
