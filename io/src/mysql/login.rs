//! How a session begins: greeting, TLS, and the proof of who we are (MySQL documentation, "Connection Phase";
//! MariaDB documentation, "Connection").
use std::path::PathBuf;

use aws_lc_rs::rsa::{OAEP_SHA1_MGF1SHA1, OaepPublicEncryptingKey, PublicEncryptingKey};
use bytes::Bytes;
use mysql_common::constants::CapabilityFlags;
use mysql_common::io::ParseBuf;
use mysql_common::packets::{
    AuthPlugin, AuthSwitchRequest, HandshakePacket, HandshakeResponse, SslRequest,
};
use mysql_common::proto::{MyDeserialize as _, MySerialize as _};
use mysql_common::scramble::{create_response_for_ed25519, scramble_native, scramble_sha256};
use rustls_pki_types::SubjectPublicKeyInfoDer;
use rustls_pki_types::pem::PemObject as _;
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};

use super::conninfo::{MySqlConnInfo, MySqlSslMode, MySqlTls, Place};
use super::packets::{PacketError, Packets};
use crate::pg::conninfo::{ChannelBinding, Host, Roots, SslMode, TlsSettings};
use crate::pg::secret::Secret;
use crate::pg::tls::{PgStream, TlsError, encrypt};

/// The longest packet of a login, in bytes.
const LOGIN_BYTES_MAX: usize = 1 << 20;

/// `utf8mb4_general_ci`, which all versions know.
const COLLATION: u8 = 45;

/// The first version with that collation. What the server calls its version is for people, and the library would take
/// digits for numbers that are none.
const WITH_UTF8MB4: (u16, u16, u16) = (5, 5, 3);

/// What we tell the server that we take, in bytes. It is for rows of statements, not for the binlog.
const MAX_PACKET: u32 = 1 << 30;

/// Answers of the server while it checks who we are.
const OK: u8 = 0x00;
const MORE_DATA: u8 = 0x01;
const SWITCH: u8 = 0xFE;
pub(super) const ERROR: u8 = 0xFF;

/// What `caching_sha2_password` says in more data (MySQL documentation, "Caching SHA-2 Pluggable
/// Authentication").
const SHA2_FAST: u8 = 0x03;
const SHA2_FULL: u8 = 0x04;
/// And how it is asked for its public key.
const SHA2_KEY: u8 = 0x02;

/// Nobody was logged in.
#[derive(Debug, Error)]
pub enum LoginError {
    /// See [`PacketError`].
    #[error(transparent)]
    Packet(#[from] PacketError),
    /// See [`TlsError`].
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The server refused us, or a statement.
    #[error("{0}")]
    Server(#[from] ServerRefusal),
    /// It has no TLS.
    #[error("the server does not support TLS, but sslmode asks for it")]
    NoTls,
    /// It sent more than it should before TLS began.
    #[error("the server sent bytes before TLS began")]
    Early,
    /// It wants a proof that we do not know.
    #[error(
        "the server wants the user to log in by \"{plugin}\"; this program knows caching_sha2_password, \
         mysql_native_password, client_ed25519 and, over TLS, mysql_clear_password"
    )]
    Plugin {
        /// The name of the plugin.
        plugin: String,
    },
    /// The password would travel readable.
    #[error("the server wants the password in the clear, and the connection is not encrypted")]
    Clear,
    /// The server's public key, with which the password is to be encrypted, is none.
    #[error("the server's public key cannot be used")]
    PublicKey,
    /// Something that the protocol does not know.
    #[error("the server broke the protocol: {0}")]
    Protocol(&'static str),
}

/// What a server says when it refuses something.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{message} (error {code})")]
pub struct ServerRefusal {
    /// The number of the error (MySQL documentation, "Server Error Message Reference").
    pub code: u16,
    /// Its text.
    pub message: String,
}

impl ServerRefusal {
    /// Reads an ERR packet (MySQL documentation, "ERR_Packet").
    pub(super) fn of(packet: &[u8]) -> Self {
        let code = match packet {
            [_, low, high, ..] => u16::from_le_bytes([*low, *high]),
            _ => 0,
        };
        let text = packet.get(3..).unwrap_or_default();
        // The SQLSTATE, which is not there before the client has said what it knows.
        let text =
            if text.first() == Some(&b'#') { text.get(6..).unwrap_or_default() } else { text };
        Self { code, message: String::from_utf8_lossy(text).into_owned() }
    }
}

/// A session of which the server knows whose it is.
pub(super) struct LoggedIn<S> {
    pub(super) packets: Packets<PgStream<S>>,
    /// What it calls its version.
    pub(super) version: String,
}

/// Logs in on a connected stream. `bytes_max` is for the packets after that.
pub(super) async fn log_in<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    conninfo: &MySqlConnInfo,
    bytes_max: usize,
) -> Result<LoggedIn<S>, LoginError> {
    let mut packets = Packets::new(stream, LOGIN_BYTES_MAX);
    let greeting = packets.read().await?;
    if greeting.first() == Some(&ERROR) {
        return Err(ServerRefusal::of(&greeting).into());
    }
    let unreadable = LoginError::Protocol("its greeting cannot be read");
    if !has_usual_nonce(&greeting) {
        return Err(unreadable);
    }
    let greeting = HandshakePacket::deserialize((), &mut ParseBuf(&greeting));
    let greeting = greeting.map_err(|_| unreadable)?;
    let capabilities = capabilities() & greeting.capabilities();
    let has_tls = greeting.capabilities().contains(CapabilityFlags::CLIENT_SSL);
    let (stream, sequence, capabilities) =
        encrypted(packets, conninfo, capabilities, has_tls).await?;
    let secure = stream.is_encrypted();
    let mut packets = Packets::resume(stream, LOGIN_BYTES_MAX, sequence);
    let password = conninfo.password.as_ref().map(Secret::expose).unwrap_or_default();
    let nonce = greeting.nonce();
    let plugin = greeting.auth_plugin().unwrap_or(AuthPlugin::MysqlNativePassword).into_owned();
    // A plugin that we do not know may be the server's default and not the user's.
    let proof = prove(&plugin, password, &nonce, secure).unwrap_or_default();
    let response = HandshakeResponse::new(
        Some(proof),
        WITH_UTF8MB4,
        Some(conninfo.user.as_bytes()),
        None::<&[u8]>,
        Some(plugin.borrow()),
        capabilities,
        None,
        MAX_PACKET,
    );
    let mut content = Vec::new();
    response.serialize(&mut content);
    packets.write(&content).await?;
    let proving = Proving { plugin, nonce, password, secure };
    proving.finish(&mut packets).await?;
    let version = greeting.server_version_str().into_owned();
    let (stream, sequence) = packets.into_stream().ok_or(LoginError::Early)?;
    Ok(LoggedIn { packets: Packets::resume(stream, bytes_max, sequence), version })
}

/// Whether the length of the nonce is one that servers have: the library below counts with it in eight bits and a
/// sign (MySQL documentation, "Protocol::HandshakeV10").
fn has_usual_nonce(greeting: &[u8]) -> bool {
    // Behind the version of the protocol, and that of the server, which ends in a zero.
    let Some((_, rest)) = greeting.split_first() else { return false };
    let version = rest.iter().position(|byte| *byte == 0);
    // Thread, first part of the nonce, its end, capabilities, character set, state, more capabilities.
    let length = version.and_then(|end| rest.get(end + 1 + 4 + 8 + 1 + 2 + 1 + 2 + 2));
    length.is_none_or(u8::is_ascii)
}

fn capabilities() -> CapabilityFlags {
    CapabilityFlags::CLIENT_LONG_PASSWORD
        | CapabilityFlags::CLIENT_LONG_FLAG
        | CapabilityFlags::CLIENT_PROTOCOL_41
        | CapabilityFlags::CLIENT_TRANSACTIONS
        | CapabilityFlags::CLIENT_SECURE_CONNECTION
        | CapabilityFlags::CLIENT_PLUGIN_AUTH
        | CapabilityFlags::CLIENT_PLUGIN_AUTH_LENENC_CLIENT_DATA
}

/// Goes on encrypted if that is wanted. Returns the stream, how many packets it has counted, and what both sides
/// know.
async fn encrypted<S: AsyncRead + AsyncWrite + Unpin>(
    mut packets: Packets<S>,
    conninfo: &MySqlConnInfo,
    capabilities: CapabilityFlags,
    has_tls: bool,
) -> Result<(PgStream<S>, u8, CapabilityFlags), LoginError> {
    let MySqlTls { mode, .. } = &conninfo.tls;
    let Place::Tcp { host, port } = &conninfo.place else {
        let (stream, sequence) = packets.into_stream().ok_or(LoginError::Early)?;
        return Ok((PgStream::Plain(stream), sequence, capabilities));
    };
    let wanted = match mode {
        MySqlSslMode::Disable | MySqlSslMode::Allow => false,
        MySqlSslMode::Prefer => has_tls,
        MySqlSslMode::Require | MySqlSslMode::VerifyCa | MySqlSslMode::VerifyIdentity => {
            if !has_tls {
                return Err(LoginError::NoTls);
            }
            true
        }
    };
    if !wanted {
        let (stream, sequence) = packets.into_stream().ok_or(LoginError::Early)?;
        return Ok((PgStream::Plain(stream), sequence, capabilities));
    }
    let capabilities = capabilities | CapabilityFlags::CLIENT_SSL;
    let mut content = Vec::new();
    SslRequest::new(capabilities, MAX_PACKET, COLLATION).serialize(&mut content);
    packets.write(&content).await?;
    let (stream, sequence) = packets.into_stream().ok_or(LoginError::Early)?;
    let host = Host { name: host.clone(), address: None, port: *port };
    let stream = encrypt(stream, &tls_settings(&conninfo.tls), &host, None).await?;
    Ok((stream, sequence, capabilities))
}

/// The same in the words of PostgreSQL, whose modes mean the same.
fn tls_settings(tls: &MySqlTls) -> TlsSettings {
    let MySqlTls { mode, roots, identity } = tls;
    let mode = match mode {
        MySqlSslMode::Disable => SslMode::Disable,
        MySqlSslMode::Allow => SslMode::Allow,
        MySqlSslMode::Prefer => SslMode::Prefer,
        MySqlSslMode::Require => SslMode::Require,
        MySqlSslMode::VerifyCa => SslMode::VerifyCa,
        MySqlSslMode::VerifyIdentity => SslMode::VerifyFull,
    };
    let roots = match roots {
        Some(path) => Roots::File(path.clone()),
        None if SslMode::VerifyCa <= mode => Roots::System,
        // There is none: nobody's home is looked at.
        None => Roots::Default,
    };
    let (certificate, key): (Option<PathBuf>, Option<PathBuf>) = identity.clone().unzip();
    let channel_binding = ChannelBinding::Disable;
    TlsSettings { mode, roots, certificate, key, channel_binding, server_name: true }
}

/// The first answer to a plugin. `None` if we do not know it.
fn prove(plugin: &AuthPlugin<'_>, password: &[u8], nonce: &[u8], secure: bool) -> Option<Vec<u8>> {
    // Some servers end the nonce of 20 bytes with a zero byte; that of Ed25519 has 32.
    let nonce20 = nonce.get(..20).unwrap_or(nonce);
    match plugin {
        AuthPlugin::CachingSha2Password | AuthPlugin::MysqlNativePassword | AuthPlugin::Ed25519
            if password.is_empty() =>
        {
            Some(Vec::new())
        }
        AuthPlugin::CachingSha2Password => scramble_sha256(nonce20, password).map(Vec::from),
        AuthPlugin::MysqlNativePassword => scramble_native(nonce20, password).map(Vec::from),
        AuthPlugin::Ed25519 => Some(create_response_for_ed25519(password, nonce).to_vec()),
        AuthPlugin::MysqlClearPassword if secure => Some(ended(password)),
        AuthPlugin::MysqlClearPassword
        | AuthPlugin::MysqlOldPassword
        | AuthPlugin::MariadbParsec { .. }
        | AuthPlugin::Other(_) => None,
    }
}

/// With the zero byte that ends it.
fn ended(password: &[u8]) -> Vec<u8> {
    [password, &[0]].concat()
}

/// A login that is under way.
struct Proving<'a> {
    plugin: AuthPlugin<'static>,
    nonce: Vec<u8>,
    password: &'a [u8],
    secure: bool,
}

impl Proving<'_> {
    /// Answers until the server says that it is enough.
    async fn finish<S: AsyncRead + AsyncWrite + Unpin>(
        mut self,
        packets: &mut Packets<S>,
    ) -> Result<(), LoginError> {
        // Each of these is one question; a server that asks on and on is none.
        for _ in 0..8 {
            let packet = packets.read().await?;
            match packet.split_first() {
                Some((&OK, _)) => return Ok(()),
                Some((&ERROR, _)) => return Err(ServerRefusal::of(&packet).into()),
                Some((&SWITCH, _)) => self.switch(packets, &packet).await?,
                Some((&MORE_DATA, data)) => self.more(packets, data).await?,
                _ => return Err(LoginError::Protocol("an answer to the login is none")),
            }
        }
        Err(LoginError::Protocol("the login does not end"))
    }

    async fn switch<S: AsyncRead + AsyncWrite + Unpin>(
        &mut self,
        packets: &mut Packets<S>,
        packet: &Bytes,
    ) -> Result<(), LoginError> {
        let switch = AuthSwitchRequest::deserialize((), &mut ParseBuf(packet));
        let switch = switch.map_err(|_| LoginError::Protocol("a switch of the plugin is none"))?;
        self.plugin = switch.auth_plugin().into_owned();
        self.nonce = switch.plugin_data().to_vec();
        let clear = matches!(self.plugin, AuthPlugin::MysqlClearPassword) && !self.secure;
        let proof = prove(&self.plugin, self.password, &self.nonce, self.secure);
        let proof = proof.ok_or_else(|| match clear {
            true => LoginError::Clear,
            false => {
                let plugin = String::from_utf8_lossy(self.plugin.as_bytes()).into_owned();
                LoginError::Plugin { plugin }
            }
        })?;
        Ok(packets.write(&proof).await?)
    }

    async fn more<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        packets: &mut Packets<S>,
        data: &[u8],
    ) -> Result<(), LoginError> {
        match data {
            [SHA2_FAST] => Ok(()),
            [SHA2_FULL] if self.secure => Ok(packets.write(&ended(self.password)).await?),
            [SHA2_FULL] => Ok(packets.write(&[SHA2_KEY]).await?),
            // What we asked for.
            key => {
                let proof = seal(key, self.password, &self.nonce).ok_or(LoginError::PublicKey)?;
                Ok(packets.write(&proof).await?)
            }
        }
    }
}

/// The password, hidden by the nonce, for the owner of the public key alone.
fn seal(key: &[u8], password: &[u8], nonce: &[u8]) -> Option<Vec<u8>> {
    let nonce = nonce.get(..20).unwrap_or(nonce);
    let hidden: Vec<u8> =
        ended(password).iter().zip(nonce.iter().cycle()).map(|(byte, mask)| byte ^ mask).collect();
    let key = SubjectPublicKeyInfoDer::from_pem_slice(key).ok()?;
    let key = OaepPublicEncryptingKey::new(PublicEncryptingKey::from_der(&key).ok()?).ok()?;
    let mut sealed = vec![0; key.ciphertext_size()];
    let length = key.encrypt(&OAEP_SHA1_MGF1SHA1, &hidden, &mut sealed, None).ok()?.len();
    sealed.truncate(length);
    Some(sealed)
}

#[cfg(test)]
mod tests {
    use super::{ServerRefusal, seal};

    #[test]
    fn a_refusal_is_read_with_and_without_a_state() {
        let with = ServerRefusal::of(b"\xFF\x15\x04#28000Access denied");
        let without = ServerRefusal::of(b"\xFF\x10\x04Too many connections");
        assert_eq!(with, ServerRefusal { code: 1045, message: "Access denied".to_owned() });
        assert_eq!(without.to_string(), "Too many connections (error 1040)");
        assert_eq!(ServerRefusal::of(b"\xFF").code, 0);
    }

    #[test]
    fn a_public_key_that_is_none_is_refused() {
        for key in
            [&b""[..], b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", b"\0"]
        {
            assert_eq!(seal(key, b"secret", &[7; 20]), None);
        }
    }
}
