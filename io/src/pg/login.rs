//! Startup and authentication (PostgreSQL documentation, "Start-up" and "SASL Authentication").
use std::io;

use bytes::{Buf as _, Bytes};
use postgres_protocol::authentication::md5_hash;
use postgres_protocol::authentication::sasl::{
    ChannelBinding as ScramBinding, SCRAM_SHA_256, SCRAM_SHA_256_PLUS, ScramSha256,
};
use postgres_protocol::message::frontend;
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};

use super::connect::{ConnectFailure, Login, SessionOptions};
use super::conninfo::{ChannelBinding, ConnInfo};
use super::server_error::ServerError;
use super::tls::PgStream;
use super::wire::{Message, Wire, WireError};

/// A login failed on our side.
#[derive(Debug, Error)]
pub enum LoginError {
    /// The connection broke or the server broke the protocol.
    #[error(transparent)]
    Wire(#[from] WireError),
    /// The server wants a password and we have none.
    #[error("the server asks for a password and the connection string has none")]
    NoPassword,
    /// The server wants to know us in a way we cannot.
    #[error("the server asks for the authentication method {method}, which is not supported")]
    Method {
        /// Its name, or its number in the protocol.
        method: String,
    },
    /// The run to which the session would belong is not the newest one.
    #[error("a newer run writes there")]
    Superseded,
    /// We want proof that nobody sits in between, and the server gives none.
    #[error("channel_binding=require, but the server logs in without channel binding")]
    NoChannelBinding,
    /// The server did not prove that it knows the password, or something like it.
    #[error("the exchange about the password failed")]
    Scram(#[source] io::Error),
}

/// Logs in for messages of our own.
pub(super) struct WireLogin<'a> {
    pub(super) conninfo: &'a ConnInfo,
    pub(super) session: &'a SessionOptions,
    /// Whether replication commands are to be understood.
    pub(super) replication: bool,
}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Login<S> for WireLogin<'_> {
    type Session = Wire<S>;

    async fn login(&self, stream: PgStream<S>) -> Result<Wire<S>, ConnectFailure> {
        let mut wire = Wire::new(stream);
        match self.log_in(&mut wire).await {
            Ok(()) => Ok(wire),
            Err(LoginError::Wire(WireError::Server(error))) => Err(ConnectFailure::Server(*error)),
            Err(error) => Err(ConnectFailure::Login(error)),
        }
    }
}

impl WireLogin<'_> {
    async fn log_in<S>(&self, wire: &mut Wire<S>) -> Result<(), LoginError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let Self { conninfo, session, replication } = self;
        let options = session.startup_options(conninfo);
        let replication = replication.then_some(("replication", "database"));
        let parameters = [
            ("user", conninfo.user.as_str()),
            ("database", &conninfo.database),
            ("client_encoding", "UTF8"),
            ("application_name", session.application_name(conninfo)),
            ("options", &options),
        ];
        let parameters = parameters.into_iter().chain(replication);
        frontend::startup_message(parameters, &mut wire.write).map_err(WireError::Encode)?;
        wire.send().await?;
        self.authenticate(wire).await?;
        loop {
            let message = wire.receive().await?;
            match message.tag {
                // BackendKeyData, NegotiateProtocolVersion.
                b'K' | b'v' => (),
                // ReadyForQuery.
                b'Z' => break,
                _ => return Err(unexpected(&message).into()),
            }
        }
        let Some(locks) = session.run else { return Ok(()) };
        for (sql, wanted) in locks.of_writer().iter().zip(["t", "f"]) {
            let rows = wire.query(sql).await?;
            if rows.first().and_then(|row| row.first()?.as_deref()) != Some(wanted) {
                return Err(LoginError::Superseded);
            }
        }
        Ok(())
    }

    async fn authenticate<S>(&self, wire: &mut Wire<S>) -> Result<(), LoginError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let (method, body) = receive_request(wire).await?;
        let binds = matches!(method, 10);
        if !binds && self.conninfo.tls.channel_binding == ChannelBinding::Require {
            return Err(LoginError::NoChannelBinding);
        }
        match method {
            0 => return Ok(()),
            3 => {
                let password = self.password()?;
                frontend::password_message(password, &mut wire.write).map_err(WireError::Encode)?;
                wire.send().await?;
            }
            5 => {
                let what = "an MD5 request without salt";
                let salt = body.first_chunk::<4>().ok_or(WireError::Protocol { what })?;
                let hash = md5_hash(self.conninfo.user.as_bytes(), self.password()?, *salt);
                frontend::password_message(hash.as_bytes(), &mut wire.write)
                    .map_err(WireError::Encode)?;
                wire.send().await?;
            }
            10 => self.scram(wire, &body).await?,
            2 => return Err(LoginError::Method { method: "Kerberos V5".to_owned() }),
            7 => return Err(LoginError::Method { method: "GSSAPI".to_owned() }),
            9 => return Err(LoginError::Method { method: "SSPI".to_owned() }),
            other => return Err(LoginError::Method { method: format!("number {other}") }),
        }
        match receive_request(wire).await? {
            (0, _) => Ok(()),
            _ => Err(WireError::Protocol { what: "a second request for authentication" }.into()),
        }
    }

    async fn scram<S>(&self, wire: &mut Wire<S>, mechanisms: &[u8]) -> Result<(), LoginError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let offers = |name: &str| mechanisms.split(|b| *b == 0).any(|m| m == name.as_bytes());
        let wanted = self.conninfo.tls.channel_binding;
        let end_point = wire.stream.end_point().filter(|_| wanted != ChannelBinding::Disable);
        let (binding, mechanism) = match end_point {
            Some(end_point) if offers(SCRAM_SHA_256_PLUS) => {
                (ScramBinding::tls_server_end_point(end_point.to_vec()), SCRAM_SHA_256_PLUS)
            }
            // "I could, but you do not offer it": the server notices if somebody took it out.
            Some(_) => (ScramBinding::unrequested(), SCRAM_SHA_256),
            None => (ScramBinding::unsupported(), SCRAM_SHA_256),
        };
        if !offers(mechanism) {
            let offered = String::from_utf8_lossy(mechanisms);
            let method = offered.trim_end_matches('\0').replace('\0', ", ");
            return Err(LoginError::Method { method });
        }
        if wanted == ChannelBinding::Require && mechanism != SCRAM_SHA_256_PLUS {
            return Err(LoginError::NoChannelBinding);
        }
        let mut scram = ScramSha256::new(self.password()?, binding);
        frontend::sasl_initial_response(mechanism, scram.message(), &mut wire.write)
            .map_err(WireError::Encode)?;
        wire.send().await?;
        let what = "an answer to SCRAM out of order";
        let (11, challenge) = receive_request(wire).await? else {
            return Err(WireError::Protocol { what }.into());
        };
        scram.update(&challenge).map_err(LoginError::Scram)?;
        frontend::sasl_response(scram.message(), &mut wire.write).map_err(WireError::Encode)?;
        wire.send().await?;
        let (12, proof) = receive_request(wire).await? else {
            return Err(WireError::Protocol { what }.into());
        };
        scram.finish(&proof).map_err(LoginError::Scram)
    }

    fn password(&self) -> Result<&[u8], LoginError> {
        self.conninfo.password.as_ref().map(|p| p.expose()).ok_or(LoginError::NoPassword)
    }
}

/// The kind of an authentication request and the rest of it.
async fn receive_request<S>(wire: &mut Wire<S>) -> Result<(u32, Bytes), WireError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut message = wire.receive().await?;
    if message.tag != b'R' {
        return Err(unexpected(&message));
    }
    let what = "an empty request for authentication";
    let kind = message.body.try_get_u32().map_err(|_| WireError::Protocol { what })?;
    Ok((kind, message.body))
}

fn unexpected(message: &Message) -> WireError {
    match message.tag {
        b'E' => WireError::Server(Box::new(ServerError::parse(&message.body))),
        _ => WireError::Protocol { what: "an unknown message while logging in" },
    }
}
