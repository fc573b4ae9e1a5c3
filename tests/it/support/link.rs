//! The way from one client to a server, which can be cut.

use std::net::Ipv4Addr;

use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// A port on which a server answers, for as long as the way there is whole.
pub struct Link {
    port: u16,
    whole: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Link {
    /// A way to the server on a port of this machine.
    pub async fn to(server: u16) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (whole, state) = watch::channel(true);
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(carry(client, server, state.clone()));
            }
        });
        Self { port, whole, task }
    }

    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// Breaks every connection, and lets none come about.
    pub fn cut(&self) {
        self.whole.send_replace(false);
    }

    /// Lets connections come about again.
    pub fn mend(&self) {
        self.whole.send_replace(true);
    }
}

async fn carry(mut client: TcpStream, server: u16, mut state: watch::Receiver<bool>) {
    let carried = async {
        if let Ok(mut server) = TcpStream::connect((Ipv4Addr::LOCALHOST, server)).await {
            let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
        }
    };
    tokio::select! {
        _ = state.wait_for(|whole| !whole) => {}
        () = carried => {}
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.cut();
        self.task.abort();
    }
}
