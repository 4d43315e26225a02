//! Where in a transaction a stream of events is, and what each event does there.
use alloc::collections::BTreeMap;
use alloc::string::String;

use super::decoder::Decoder;
use super::event::{Decoded, Event, GtidEvent, GtidList, Header, MariaGtidEvent};
use super::format::Format;
use super::prepared::{Held, Prepared};
use super::query::Query;
use super::savepoints::Savepoints;
use super::statement::{Control, XaName, XaVerb, control};
use super::step::{Alter, Begin, Step};
use super::transaction_error::TransactionError;
use crate::model::gtid::{AnyGtid, GtidPosition, GtidSet, MariaGtid};
use crate::model::time::WallTime;

/// How much of a statement an error shows.
const STATEMENT_BYTES_MAX: usize = 100;

/// All but the decoder, so that events can be borrowed from that.
#[derive(Debug)]
pub(super) struct Flow {
    pub(super) savepoints_max: usize,
    pub(super) executed: GtidPosition,
    pub(super) prepared: Prepared,
    pub(super) state: State,
}

/// Where in a transaction the stream is.
#[derive(Debug)]
pub(super) enum State {
    Between,
    /// It is named, and what comes next says what it is.
    Named(Begin),
    Open {
        begin: Begin,
        savepoints: Savepoints,
    },
    /// An XA transaction, which is kept.
    Xa {
        name: XaName,
        held: Held,
    },
}

impl State {
    const fn words(&self) -> &'static str {
        match self {
            Self::Between => "outside of a transaction",
            Self::Named(_) => "where a transaction should begin",
            Self::Open { .. } => "inside of a transaction",
            Self::Xa { .. } => "inside of an XA transaction",
        }
    }
}

/// What all steps of one event go to.
pub(super) trait Take<E>: FnMut(Step<'_>) -> Result<(), E> {}
impl<E, F: FnMut(Step<'_>) -> Result<(), E>> Take<E> for F {}

impl Flow {
    pub(super) fn unexpected(&self, event: &'static str, header: &Header) -> TransactionError {
        TransactionError::Unexpected { event, end: header.end, state: self.state.words() }
    }

    /// Takes one event. `raw` are its bytes and the length of the checksum at their end.
    pub(super) fn take<E: From<TransactionError>>(
        &mut self,
        decoder: &Decoder,
        decoded: &Decoded<'_>,
        raw: (&[u8], usize),
        step: &mut impl Take<E>,
    ) -> Result<(), E> {
        let header = &decoded.header;
        match &decoded.event {
            Event::Gtid(event) => self.named(header, event).map_err(E::from),
            Event::MariaGtid(event) => self.named_maria(decoder, header, event, step),
            Event::Query(query) => self.query(decoder, header, query, raw, step),
            Event::TableMap(_) | Event::Rows(_) | Event::RowsQuery(_) => {
                self.rows(decoded, raw, step)
            }
            Event::Xid(_) => self.end(header, step),
            Event::XaPrepare { xid, one_phase } => {
                let name = XaName::from(*xid);
                self.xa_prepare(decoder, header, &name, *one_phase, step)
            }
            Event::Format(format) => self.format(header, format, step),
            Event::Rotate(_) if header.has(Header::ARTIFICIAL) => Ok(()),
            Event::Rotate(_) => self.between("the end of a file", header).map_err(E::from),
            Event::Stop => self.between("the end of the server", header).map_err(E::from),
            Event::PreviousGtids(set) => self.previous(header, set).map_err(E::from),
            Event::GtidList(list) => self.list(header, list).map_err(E::from),
            Event::Incident { number, message } => {
                let message = String::from_utf8_lossy(message).into_owned();
                Err(TransactionError::Incident { number: *number, message }.into())
            }
            Event::Payload(_) => Err(self.unexpected("a compressed transaction", header).into()),
            Event::Heartbeat { .. } => match self.state {
                State::Between => step(Step::Idle),
                State::Named(_) | State::Open { .. } | State::Xa { .. } => Ok(()),
            },
            // They have no rows and end nothing.
            Event::Checkpoint(_) | Event::Group(_) | Event::Ignorable(_) => Ok(()),
        }
    }

    fn between(&self, event: &'static str, header: &Header) -> Result<(), TransactionError> {
        match self.state {
            State::Between => Ok(()),
            State::Named(_) | State::Open { .. } | State::Xa { .. } => {
                Err(self.unexpected(event, header))
            }
        }
    }

    /// A file begins. If the server died while it wrote a transaction, that ends here.
    fn format<E: From<TransactionError>>(
        &mut self,
        header: &Header,
        format: &Format,
        step: &mut impl Take<E>,
    ) -> Result<(), E> {
        let begin = match &self.state {
            State::Between => return Ok(()),
            State::Named(begin) | State::Open { begin, .. } => begin.gtid,
            State::Xa { held, .. } => held.gtid,
        };
        if format.started == 0 {
            return Err(self.unexpected("the beginning of a file", header).into());
        }
        self.state = State::Between;
        step(Step::Abandoned(begin))
    }

    fn previous(&self, header: &Header, set: &GtidSet) -> Result<(), TransactionError> {
        self.between("the sets of earlier files", header)?;
        let GtidPosition::MySql(executed) = &self.executed else { return Ok(()) };
        if set.is_subset(executed) {
            return Ok(());
        }
        let mut missing = set.clone();
        missing.subtract(executed)?;
        Err(TransactionError::Gap { missing: alloc::format!("{missing}") })
    }

    fn list(&self, header: &Header, list: &GtidList<'_>) -> Result<(), TransactionError> {
        self.between("the list of earlier files", header)?;
        let GtidPosition::Maria(executed) = &self.executed else { return Ok(()) };
        // Of each domain the last one counts: numbers of other servers of it may be larger. Domains that
        // the position does not have yet begin with whatever is first.
        let last: BTreeMap<u32, MariaGtid> = list.iter().map(|gtid| (gtid.domain, gtid)).collect();
        let missing = last.values().find(|gtid| {
            executed.last(gtid.domain).is_some_and(|last| last.sequence < gtid.sequence)
        });
        match missing {
            Some(gtid) if !header.has(Header::ARTIFICIAL) => {
                Err(TransactionError::Gap { missing: alloc::format!("{gtid}") })
            }
            Some(_) | None => Ok(()),
        }
    }

    fn named(&mut self, header: &Header, event: &GtidEvent) -> Result<(), TransactionError> {
        self.between("a GTID", header)?;
        let Some(gtid) = event.gtid else {
            return Err(TransactionError::Anonymous { end: header.end });
        };
        let any = AnyGtid::MySql(gtid);
        let GtidPosition::MySql(executed) = &self.executed else {
            return Err(TransactionError::OtherProduct { gtid: any });
        };
        if executed.contains(gtid) {
            return Err(TransactionError::Repeated { gtid: any });
        }
        let commit = event.original_commit.or(event.immediate_commit);
        let committed = commit.map_or_else(
            || seconds(header),
            |micros| WallTime { micros: i64::try_from(micros).unwrap_or(i64::MAX) },
        );
        self.state = State::Named(Begin { gtid: any, committed, alter: None });
        Ok(())
    }

    fn named_maria<E: From<TransactionError>>(
        &mut self,
        decoder: &Decoder,
        header: &Header,
        event: &MariaGtidEvent<'_>,
        step: &mut impl Take<E>,
    ) -> Result<(), E> {
        self.between("a GTID", header)?;
        let gtid = AnyGtid::Maria(event.gtid);
        let GtidPosition::Maria(executed) = &self.executed else {
            return Err(TransactionError::OtherProduct { gtid }.into());
        };
        let begin = Begin { gtid, committed: seconds(header), alter: alter(event) };
        let alone = MariaGtidEvent::STANDALONE | MariaGtidEvent::COMPLETED_XA;
        if event.flags & alone != 0 {
            self.state = State::Named(begin);
            return Ok(());
        }
        if event.flags & MariaGtidEvent::PREPARED_XA != 0
            && let Some(xid) = event.xid
        {
            let before = executed.last(event.gtid.domain);
            let held = Held::new(gtid, before, decoder.format().cloned());
            self.state = State::Xa { name: xid.into(), held };
            return Ok(());
        }
        self.state = State::Open { begin, savepoints: Savepoints::new() };
        step(Step::Begin(begin))
    }

    fn rows<E: From<TransactionError>>(
        &mut self,
        decoded: &Decoded<'_>,
        (bytes, footer): (&[u8], usize),
        step: &mut impl Take<E>,
    ) -> Result<(), E> {
        match &mut self.state {
            State::Open { .. } => (),
            State::Xa { held, .. } => {
                return self.prepared.keep(held, bytes, footer).map_err(E::from);
            }
            State::Between | State::Named(_) => {
                return Err(self.unexpected("a row", &decoded.header).into());
            }
        }
        show_rows(&decoded.event, step)
    }

    fn query<E: From<TransactionError>>(
        &mut self,
        decoder: &Decoder,
        header: &Header,
        query: &Query<'_>,
        raw: (&[u8], usize),
        step: &mut impl Take<E>,
    ) -> Result<(), E> {
        let control = control(&query.statement);
        if control == Control::Unreadable {
            return Err(unreadable(query).into());
        }
        match &mut self.state {
            State::Between => Err(self.unexpected("a statement", header).into()),
            State::Named(begin) => {
                let begin = *begin;
                self.first_query(decoder, (header, query), begin, control, step)
            }
            State::Open { .. } => self.open_query(header, query, control, step),
            State::Xa { name, held } => match control {
                Control::Xa(XaVerb::Start | XaVerb::End, of) if of == *name => Ok(()),
                Control::Savepoint(_)
                | Control::RollbackTo(_)
                | Control::Release(_)
                | Control::Nothing(_) => self.prepared.keep(held, raw.0, raw.1).map_err(E::from),
                Control::Begin
                | Control::Commit
                | Control::Rollback
                | Control::Xa(..)
                | Control::Unreadable => Err(self.unexpected("a statement", header).into()),
            },
        }
    }

    /// What a transaction is that has been named.
    fn first_query<E: From<TransactionError>>(
        &mut self,
        decoder: &Decoder,
        (header, query): (&Header, &Query<'_>),
        begin: Begin,
        control: Control,
        step: &mut impl Take<E>,
    ) -> Result<(), E> {
        match control {
            Control::Begin => {
                self.state = State::Open { begin, savepoints: Savepoints::new() };
                step(Step::Begin(begin))
            }
            Control::Xa(XaVerb::Start, name) => {
                let held = Held::new(begin.gtid, None, decoder.format().cloned());
                self.state = State::Xa { name, held };
                Ok(())
            }
            Control::Xa(XaVerb::Commit, name) => {
                let Some(held) = self.prepared.take(&name) else {
                    let xid = alloc::format!("{name}");
                    return Err(TransactionError::XaUnknown { xid }.into());
                };
                self.replay(decoder, begin, &held, step)?;
                self.finish(begin.gtid)?;
                step(Step::Commit(begin.gtid))
            }
            Control::Xa(XaVerb::Rollback, name) => {
                self.prepared.take(&name);
                self.finish(begin.gtid)?;
                step(Step::Begin(begin))?;
                step(Step::Rollback(begin.gtid))
            }
            Control::Nothing(kind) => {
                step(Step::Begin(begin))?;
                step(Step::Statement(query, kind))?;
                self.finish(begin.gtid)?;
                step(Step::Commit(begin.gtid))
            }
            Control::Commit
            | Control::Rollback
            | Control::Savepoint(_)
            | Control::RollbackTo(_)
            | Control::Release(_)
            | Control::Xa(XaVerb::End | XaVerb::Prepare, _)
            | Control::Unreadable => Err(self.unexpected("a statement", header).into()),
        }
    }

    /// A statement inside of a transaction.
    fn open_query<E: From<TransactionError>>(
        &mut self,
        header: &Header,
        query: &Query<'_>,
        control: Control,
        step: &mut impl Take<E>,
    ) -> Result<(), E> {
        let (limit, refused) = (self.savepoints_max, self.unexpected("a statement", header));
        let State::Open { begin, savepoints } = &mut self.state else {
            return Err(refused.into());
        };
        match control {
            Control::Commit => self.end(header, step),
            Control::Rollback => {
                let gtid = begin.gtid;
                self.finish(gtid)?;
                step(Step::Rollback(gtid))
            }
            Control::Savepoint(name) => {
                let number = savepoints.set(name, limit)?;
                step(Step::Savepoint(number))
            }
            Control::RollbackTo(name) => {
                let number = savepoints.find(&name)?;
                step(Step::RollbackTo(number))
            }
            Control::Release(name) => savepoints.release(&name).map_err(E::from),
            Control::Nothing(kind) => step(Step::Statement(query, kind)),
            Control::Begin | Control::Xa(..) | Control::Unreadable => Err(refused.into()),
        }
    }

    /// The open transaction is committed.
    fn end<E: From<TransactionError>>(
        &mut self,
        header: &Header,
        step: &mut impl Take<E>,
    ) -> Result<(), E> {
        let State::Open { begin: Begin { gtid, .. }, .. } = self.state else {
            return Err(self.unexpected("a commit", header).into());
        };
        self.finish(gtid)?;
        step(Step::Commit(gtid))
    }

    /// The end of a transaction has been seen.
    fn finish(&mut self, gtid: AnyGtid) -> Result<(), TransactionError> {
        self.state = State::Between;
        if self.executed.insert(gtid)? {
            return Ok(());
        }
        Err(TransactionError::OtherProduct { gtid })
    }

    fn xa_prepare<E: From<TransactionError>>(
        &mut self,
        decoder: &Decoder,
        header: &Header,
        of: &XaName,
        one_phase: bool,
        step: &mut impl Take<E>,
    ) -> Result<(), E> {
        let unexpected = self.unexpected("the preparation of an XA transaction", header);
        let state = core::mem::replace(&mut self.state, State::Between);
        let State::Xa { name, held } = state else { return Err(unexpected.into()) };
        if name != *of {
            return Err(unexpected.into());
        }
        let gtid = held.gtid;
        if one_phase {
            let begin = Begin { gtid, committed: seconds(header), alter: None };
            self.replay(decoder, begin, &held, step)?;
            self.finish(gtid)?;
            return step(Step::Commit(gtid));
        }
        self.prepared.add(name, held)?;
        self.finish(gtid)?;
        step(Step::Prepared(gtid))
    }

    /// Hands out what was kept.
    fn replay<E: From<TransactionError>>(
        &mut self,
        decoder: &Decoder,
        begin: Begin,
        held: &Held,
        step: &mut impl Take<E>,
    ) -> Result<(), E> {
        self.state = State::Open { begin, savepoints: Savepoints::new() };
        step(Step::Begin(begin))?;
        // It was written in the format of its time.
        let mut decoder = decoder.clone();
        decoder.set_format(held.format.clone());
        for bytes in held.events() {
            let decoded = decoder.decode_inner(bytes).map_err(TransactionError::Decode)?;
            if let Event::Query(query) = &decoded.event {
                let control = control(&query.statement);
                self.open_query(&decoded.header, query, control, step)?;
            } else {
                show_rows(&decoded.event, step)?;
            }
        }
        Ok(())
    }
}

/// Hands out what is in all transactions.
fn show_rows<E>(event: &Event<'_>, step: &mut impl Take<E>) -> Result<(), E> {
    match event {
        Event::TableMap(table) => step(Step::TableMap(table)),
        Event::Rows(rows) => step(Step::Rows(rows)),
        Event::RowsQuery(text) => step(Step::RowsQuery(text)),
        Event::Format(_)
        | Event::Rotate(_)
        | Event::PreviousGtids(_)
        | Event::Gtid(_)
        | Event::Query(_)
        | Event::Xid(_)
        | Event::XaPrepare { .. }
        | Event::Stop
        | Event::Incident { .. }
        | Event::Heartbeat { .. }
        | Event::Payload(_)
        | Event::MariaGtid(_)
        | Event::GtidList(_)
        | Event::Checkpoint(_)
        | Event::Group(_)
        | Event::Ignorable(_) => Ok(()),
    }
}

const fn alter(event: &MariaGtidEvent<'_>) -> Option<Alter> {
    if event.extra_flags & MariaGtidEvent::START_ALTER != 0 {
        return Some(Alter::Start);
    }
    match event.alter_sequence {
        Some(sequence) if event.extra_flags & MariaGtidEvent::COMMIT_ALTER != 0 => {
            Some(Alter::Commit(sequence))
        }
        Some(sequence) => Some(Alter::Rollback(sequence)),
        None => None,
    }
}

/// When the event's statement began.
fn seconds(header: &Header) -> WallTime {
    WallTime { micros: i64::from(header.seconds).saturating_mul(1_000_000) }
}

fn unreadable(query: &Query<'_>) -> TransactionError {
    let begin = query.statement.get(..STATEMENT_BYTES_MAX).unwrap_or(&query.statement);
    TransactionError::XaUnreadable { statement: String::from_utf8_lossy(begin).into_owned() }
}
