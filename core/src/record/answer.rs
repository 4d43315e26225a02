//! What a machine answered to one event, as a recording keeps it: a line in words for people and a digest
//! of all of it for the comparison.
use alloc::format;
use alloc::string::{String, ToString as _};
use alloc::vec::Vec;
use core::fmt;

use super::hide::Hider;
use super::nouns::{
    demand, mono, put_demand, put_hlc, put_mono, put_position, put_range, put_status, put_text,
    put_wall, status,
};
use super::rows::RowWriter;
use super::sip::CHECKSUM;
use super::wire::{RecordError, Rest, put_list, put_number, put_option, put_size};
use crate::effect::Effect;
use crate::machine::{Demand, Machine};
use crate::model::catalog::Catalog;
use crate::model::mutation::{ApplyBatch, ApplyOrder, ApplyRequest, Piece, TxEnd};
use crate::model::time::MonoTime;
use crate::status::Status;
use crate::stop::Stop;

/// See the [module docs](self).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The effects in their order, or the one reason to stop.
    pub said: Vec<Said>,
    /// Whether the machine cannot go on; then `said` is why.
    pub stops: bool,
    /// Where the machine stands afterwards.
    pub stands: Stands,
}

/// One effect, or why there are none.
#[derive(Clone, PartialEq, Eq)]
pub struct Said {
    /// As the driver logs it.
    pub line: String,
    /// Of everything in it.
    pub digest: [u8; 16],
}

impl fmt::Debug for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({:016x})", self.line, u128::from_be_bytes(self.digest) >> 64)
    }
}

/// All that a driver sees of a machine besides its effects. The bytes it holds are among it, so that images
/// of another size than their values are noticed at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stands {
    /// A snapshot.
    pub status: Status,
    /// Whether it wants to be told more.
    pub demand: Demand,
    /// When it wants to be woken.
    pub deadline: Option<MonoTime>,
}

impl Stands {
    fn of(machine: &Machine) -> Self {
        let (status, demand) = (machine.status(), machine.demand());
        Self { status, demand, deadline: machine.next_deadline() }
    }
}

impl Answer {
    /// What a machine answered: effects, or a reason to stop.
    pub(super) fn of(
        catalog: &Catalog,
        hider: Option<&Hider>,
        answered: Result<&[Effect], &Stop>,
        machine: &Machine,
    ) -> Self {
        let stands = Stands::of(machine);
        let said = match answered {
            Ok(effects) => effects.iter().map(|effect| match hider {
                Some(hider) => said(catalog, &hider.effect(effect)),
                None => said(catalog, effect),
            }),
            Err(stop) => {
                let stop = hider.map_or_else(|| stop.clone(), |hider| hider.stop(stop));
                // The text has not all of it, and nobody has to read the rest.
                let digest = CHECKSUM.wide_of_bytes(format!("{stop:?}").as_bytes());
                let said = alloc::vec![Said { line: stop.to_string(), digest }];
                return Self { said, stops: true, stands };
            }
        };
        Self { said: said.collect(), stops: false, stands }
    }

    pub(super) fn put(&self, out: &mut Vec<u8>) {
        let Self { said, stops, stands: Stands { status, demand, deadline } } = self;
        put_list(out, said, |out, Said { line, digest }| {
            put_text(out, line);
            out.extend_from_slice(digest);
        });
        out.push(u8::from(*stops));
        put_status(out, status);
        put_demand(out, *demand);
        put_option(out, *deadline, put_mono);
    }

    pub(super) fn read(rest: &mut Rest<'_>) -> Result<Self, RecordError> {
        let what = "an answer";
        Ok(Self {
            said: rest.list(what, |rest| {
                Ok(Said { line: rest.text(what)?, digest: rest.array(what)? })
            })?,
            stops: rest.bool(what)?,
            stands: Stands {
                status: status(rest)?,
                demand: demand(rest)?,
                deadline: rest.option(what, mono)?,
            },
        })
    }
}

fn said(catalog: &Catalog, effect: &Effect) -> Said {
    let mut bytes = Vec::new();
    put_effect(catalog, &mut bytes, effect);
    Said { line: effect.to_string(), digest: CHECKSUM.wide_of_bytes(&bytes) }
}

/// Everything in an effect, once; it is never read back.
fn put_effect(catalog: &Catalog, out: &mut Vec<u8>, effect: &Effect) {
    let mut rows = RowWriter::spelling(catalog);
    match effect {
        Effect::Acknowledge(position) => {
            out.push(0);
            put_position(out, *position);
        }
        Effect::Apply { op, request } => {
            out.push(1);
            put_number(out, op.0);
            put_request(&mut rows, out, request);
        }
        Effect::Answer(request) => {
            out.push(2);
            put_number(out, request.0);
        }
        Effect::ReadStaged { op, after, through, rows_max } => {
            out.push(3);
            put_number(out, op.0);
            put_hlc(out, *after);
            put_hlc(out, *through);
            put_number(out, u64::from(*rows_max));
        }
        Effect::RetireStaged { op, through } => {
            out.push(4);
            put_number(out, op.0);
            put_hlc(out, *through);
        }
        Effect::SaveCheckpoint { op, position } => {
            out.push(5);
            put_number(out, op.0);
            put_position(out, *position);
        }
        Effect::SaveHorizon { op, through } => {
            out.push(8);
            put_number(out, op.0);
            put_hlc(out, *through);
        }
        Effect::SaveResolved { op, partition, resolved } => {
            out.push(6);
            put_number(out, op.0);
            put_number(out, u64::from(partition.0));
            put_hlc(out, *resolved);
        }
        Effect::Stage { op, rows: timed, floor } => {
            out.push(7);
            put_number(out, op.0);
            put_hlc(out, *floor);
            rows.put_timed(out, timed);
        }
    }
}

fn put_request(rows: &mut RowWriter<'_>, out: &mut Vec<u8>, request: &ApplyRequest) {
    let ApplyRequest { batch, order, dead } = request;
    let ApplyBatch { first, last, after, position, committed, piece, mutations, ends } = &**batch;
    put_number(out, first.0);
    put_number(out, last.0);
    put_option(out, *after, put_position);
    put_position(out, *position);
    put_option(out, *committed, put_wall);
    out.push(match piece {
        Piece::Whole => 0,
        Piece::First => 1,
        Piece::Middle => 2,
        Piece::Last => 3,
    });
    rows.put_mutations(out, mutations);
    put_list(out, ends, |out, TxEnd { seq, position, before }| {
        put_number(out, seq.0);
        put_position(out, *position);
        put_size(out, *before);
    });
    match order {
        ApplyOrder::Netted => out.push(0),
        ApplyOrder::Source => out.push(1),
        ApplyOrder::Settled(last) => {
            out.push(3);
            put_list(out, last, |out, index| put_size(out, *index));
        }
        ApplyOrder::RowWise(range) => {
            out.push(2);
            put_range(out, range);
        }
    }
    put_list(out, dead, |out, index| put_size(out, *index));
}
