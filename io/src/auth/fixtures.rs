//! Keys for tests, made with openssl. Nobody uses them for anything.

pub(super) const RSA_PKCS8: &str = include_str!("fixtures/rsa.pkcs8.pem");
pub(super) const RSA_PKCS1: &str = include_str!("fixtures/rsa.pkcs1.pem");
pub(super) const RSA_PUBLIC: &str = include_str!("fixtures/rsa.pub.pem");
pub(super) const RSA_1024_PUBLIC: &str = include_str!("fixtures/rsa1024.pub.pem");
/// With a block of parameters before the key, as `openssl ecparam -genkey` writes it.
pub(super) const P256_SEC1: &str = include_str!("fixtures/p256.sec1.pem");
pub(super) const P256_PKCS8: &str = include_str!("fixtures/p256.pkcs8.pem");
pub(super) const P256_ENCRYPTED: &str = include_str!("fixtures/p256.encrypted.pem");
pub(super) const P256_PUBLIC: &str = include_str!("fixtures/p256.pub.pem");
pub(super) const P256_OFF_CURVE: &str = include_str!("fixtures/p256.off_curve.pem");
pub(super) const P384_SEC1: &str = include_str!("fixtures/p384.sec1.pem");
pub(super) const P384_PKCS8: &str = include_str!("fixtures/p384.pkcs8.pem");
pub(super) const P384_PUBLIC: &str = include_str!("fixtures/p384.pub.pem");
pub(super) const P521_SEC1: &str = include_str!("fixtures/p521.sec1.pem");
pub(super) const P521_PUBLIC: &str = include_str!("fixtures/p521.pub.pem");
pub(super) const ED25519_PUBLIC: &str = include_str!("fixtures/ed25519.pub.pem");
