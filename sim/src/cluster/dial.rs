//! The program's way to the simulated network.
use std::io;

use replicator_io::net::Dial;
use turmoil::net::TcpStream;

/// Dials the hosts of a simulation by their names.
#[derive(Clone, Copy, Debug, Default)]
pub struct SimDial;

impl Dial for SimDial {
    type Stream = TcpStream;

    async fn dial(&self, host: &str, port: u16) -> io::Result<TcpStream> {
        TcpStream::connect((host, port)).await
    }
}
