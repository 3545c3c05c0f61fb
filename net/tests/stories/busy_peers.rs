//! A side that is busy looks at its packets late. That is no loss: nobody sends again what is only waiting.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use frokost_engine::{Amount, Command, Outcome, Role, Sequence};
use frokost_net::Client;
use tokio::net::UdpSocket;
use tokio::time::sleep;

use crate::world::*;

/// One direction of a way on which packets can be made to wait; they go on with the next that comes when they need not wait any more. All are
/// counted when they come.
#[derive(Default)]
struct Way {
    waits: AtomicBool,
    came: AtomicUsize,
}

impl Way {
    /// Carries what comes to one socket to whoever sent to the other.
    async fn carry(self: Arc<Way>, from: Arc<UdpSocket>, to: Arc<UdpSocket>) {
        let mut packet = vec![0; 65_536];
        let mut held = Vec::new();
        loop {
            let (length, sender) = from.recv_from(&mut packet).await.unwrap();
            from.connect(sender).await.unwrap();
            self.came.fetch_add(1, Ordering::SeqCst);
            held.push(packet[..length].to_vec());
            if !self.waits.load(Ordering::SeqCst) {
                for packet in held.drain(..) {
                    to.send(&packet).await.unwrap();
                }
            }
        }
    }
}

/// A way to the server, and what it does there and back.
async fn way_to(server: SocketAddr) -> (SocketAddr, Arc<Way>, Arc<Way>) {
    let near = Arc::new(UdpSocket::bind("127.0.0.1:0").await.unwrap());
    let far = Arc::new(UdpSocket::bind("127.0.0.1:0").await.unwrap());
    far.connect(server).await.unwrap();
    let (there, back) = (Arc::new(Way::default()), Arc::new(Way::default()));
    tokio::spawn(Arc::clone(&there).carry(Arc::clone(&near), Arc::clone(&far)));
    tokio::spawn(Arc::clone(&back).carry(Arc::clone(&far), Arc::clone(&near)));
    (near.local_addr().unwrap(), there, back)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_sent_again_to_who_is_only_busy() {
    let world = World::new().await;
    let (address, there, back) = way_to(world.server.address()).await;
    let (till, _) = Client::connect(address, &world.bundle("till-1", Role::Till, 1)).await.unwrap();
    let sell = async |n: u64| {
        let command = Command::Purchase { card: card(), amount: Amount::from_ore(100) };
        assert!(matches!(till.command(Sequence(n), command).await, Ok(Outcome::Approved(_))));
    };
    // Both know how long the way is, and everything has been acknowledged.
    for n in 1..=20 {
        sell(n).await;
    }
    let mut n = 20;
    for way in [&there, &back] {
        // A machine that has no time for this either shows nothing: then once more.
        for attempt in 1.. {
            assert!(attempt < 20, "100 ms never took less than 150");
            sleep(Duration::from_millis(300)).await;
            n += 1;
            way.came.store(0, Ordering::SeqCst);
            way.waits.store(true, Ordering::SeqCst);
            let busy = async {
                let begun = Instant::now();
                sleep(Duration::from_millis(100)).await;
                let came = way.came.load(Ordering::SeqCst);
                let in_time = begun.elapsed() < Duration::from_millis(150);
                way.waits.store(false, Ordering::SeqCst);
                (in_time, came)
            };
            let ((), (in_time, came)) = tokio::join!(sell(n), busy);
            if in_time {
                assert_eq!(came, 1, "sent again while the other side was busy, sale {n}");
                break;
            }
        }
    }
}
