//! A relay that keeps every byte that a server sends to its clients.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

/// Listens on a free port and relays to another; records what flows back.
pub(crate) struct Relay {
    port: u16,
    received: Arc<Mutex<Vec<u8>>>,
}

impl Relay {
    pub(crate) fn to(target: u16) -> Self {
        Self::announcing(target, b"")
    }

    /// The same, with `header` in front of what each client sends.
    pub(crate) fn announcing(target: u16, header: &[u8]) -> Self {
        let header = header.to_vec();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let received = Arc::new(Mutex::new(Vec::new()));
        let record = Arc::clone(&received);
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let mut server = TcpStream::connect((Ipv4Addr::LOCALHOST, target)).unwrap();
                server.write_all(&header).unwrap();
                let record = Arc::clone(&record);
                let (from, to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
                thread::spawn(move || pump(from, to, None));
                thread::spawn(move || pump(server, client, Some(&record)));
            }
        });
        Self { port, received }
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Everything that clients received so far.
    pub(crate) fn received(&self) -> Vec<u8> {
        self.received.lock().unwrap().clone()
    }
}

fn pump(mut from: TcpStream, mut to: TcpStream, record: Option<&Mutex<Vec<u8>>>) {
    let mut buffer = [0; 16 * 1024];
    while let Ok(read) = from.read(&mut buffer) {
        if read == 0 || to.write_all(&buffer[..read]).is_err() {
            break;
        }
        if let Some(record) = record {
            record.lock().unwrap().extend_from_slice(&buffer[..read]);
        }
    }
    let _ = to.shutdown(Shutdown::Write);
}
