//! Does a certificate bear the name of the host? As libpq sees it (PostgreSQL documentation, "SSL
//! Support", "Client Verification of Server Certificates"; fe-secure-common.c).
//!
//! The subject alternative names count. The common name counts if there is none of the host's own kind,
//! address or name, among them. The TLS library knows no common names, so the check is our own.
use std::net::IpAddr;

use x509_cert::Certificate;
use x509_cert::der::asn1::{PrintableStringRef, TeletexStringRef, Utf8StringRef};
use x509_cert::der::oid::db::rfc4519::COMMON_NAME;
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;

/// What a certificate is made out to, or `Ok` if `host` is among it.
pub(super) fn check(certificate: &Certificate, host: &str) -> Result<(), Vec<String>> {
    let address = host.parse::<IpAddr>().ok();
    let mut presented = Vec::new();
    let mut same_kind = false;
    let names = certificate.tbs_certificate.get::<SubjectAltName>().ok().flatten();
    for name in names.into_iter().flat_map(|(_, names)| names.0) {
        match name {
            GeneralName::DnsName(name) => {
                if matches(name.as_str(), host) {
                    return Ok(());
                }
                same_kind |= address.is_none();
                presented.push(name.to_string());
            }
            GeneralName::IpAddress(octets) => {
                same_kind |= address.is_some();
                let Some(named) = address_of(octets.as_bytes()) else { continue };
                if address == Some(named) {
                    return Ok(());
                }
                presented.push(named.to_string());
            }
            GeneralName::OtherName(_)
            | GeneralName::Rfc822Name(_)
            | GeneralName::DirectoryName(_)
            | GeneralName::EdiPartyName(_)
            | GeneralName::UniformResourceIdentifier(_)
            | GeneralName::RegisteredId(_) => (),
        }
    }
    if !same_kind && let Some(name) = common_name(certificate) {
        if matches(&name, host) {
            return Ok(());
        }
        presented.push(name);
    }
    Err(presented)
}

fn address_of(octets: &[u8]) -> Option<IpAddr> {
    if let Ok(octets) = <[u8; 4]>::try_from(octets) {
        return Some(IpAddr::from(octets));
    }
    <[u8; 16]>::try_from(octets).ok().map(IpAddr::from)
}

/// The last one, which is the most specific.
fn common_name(certificate: &Certificate) -> Option<String> {
    let subject = &certificate.tbs_certificate.subject;
    let mut attributes = subject.0.iter().rev().flat_map(|name| name.0.iter());
    let value = &attributes.find(|attribute| attribute.oid == COMMON_NAME)?.value;
    if let Ok(text) = value.decode_as::<Utf8StringRef<'_>>() {
        return Some(text.as_str().to_owned());
    }
    if let Ok(text) = value.decode_as::<PrintableStringRef<'_>>() {
        return Some(text.as_str().to_owned());
    }
    let text = value.decode_as::<TeletexStringRef<'_>>().ok()?;
    Some(text.as_str().to_owned())
}

/// Equal without regard to case, or a wildcard that stands for exactly the first label.
fn matches(pattern: &str, host: &str) -> bool {
    if pattern.contains('\0') {
        return false;
    }
    if pattern.eq_ignore_ascii_case(host) {
        return true;
    }
    // An address is no name with labels.
    if host.parse::<IpAddr>().is_ok() {
        return false;
    }
    let Some(domain) = pattern.strip_prefix("*.").filter(|domain| !domain.is_empty()) else {
        return false;
    };
    host.split_once('.')
        .is_some_and(|(label, rest)| !label.is_empty() && rest.eq_ignore_ascii_case(domain))
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn a_wildcard_stands_for_exactly_one_label() {
        for (pattern, host, expected) in [
            ("db.example.com", "DB.example.COM", true),
            ("db.example.com", "db.example.org", false),
            ("*.example.com", "db.example.com", true),
            ("*.example.com", "a.db.example.com", false),
            ("*.example.com", "example.com", false),
            ("*.example.com", ".example.com", false),
            ("d*.example.com", "db.example.com", false),
            ("*.", "db", false),
            ("*", "db", false),
            ("*.0.0.1", "127.0.0.1", false),
            ("127.0.0.1", "127.0.0.1", true),
            ("db\0.example.com", "db\0.example.com", false),
        ] {
            assert_eq!(matches(pattern, host), expected, "{pattern:?} {host:?}");
        }
    }
}
