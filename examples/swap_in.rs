//! One program twice: `swap_in_async_nats.rs` on plain NATS, `swap_in.rs` on a verified bus. They
//! differ in their imports and in how they connect, and print the same.
//!
//! ```text
//! cargo run --example swap_in_async_nats      # both need a NATS server at NATS_URL,
//! cargo run --example swap_in                 # 127.0.0.1:4222 without it
//! ```

use futures_util::StreamExt as _;
use futures_util::stream::select;
use trustmesh::services::authority::Authority;
use trustmesh::{ConnectOptions, HeaderMap};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = std::env::var("NATS_URL").unwrap_or_else(|_| "127.0.0.1:4222".to_owned());
    let shop = Authority::dev("shop")?.agent("shop", ["pub+sub+req+serve:shop.>"])?;
    let client = ConnectOptions::new(shop).connect(url).await?;

    // Publish and subscribe, with a header.
    let mut news = client.subscribe("shop.news.*").await?;
    let mut headers = HeaderMap::new();
    headers.insert("Language", "en");
    let subject = "shop.news.tea";
    client
        .publish_with_headers(subject, headers, "fresh tea".into())
        .await?;
    let message = news.next().await.ok_or("the stream ended")?;
    let language = message.headers.as_ref().and_then(|h| h.get("Language"));
    let language = language.map(|value| value.as_str());
    println!("{}: {:?}, {language:?}", message.subject, message.payload);

    // Two workers share the orders between them.
    let one = client
        .queue_subscribe("shop.orders", "workers".to_owned())
        .await?;
    let two = client
        .queue_subscribe("shop.orders", "workers".to_owned())
        .await?;
    for number in 0..6 {
        let order = format!("order {number}");
        client.publish("shop.orders", order.into()).await?;
    }
    let mut orders = Vec::new();
    let mut work = select(one, two);
    while orders.len() < 6 {
        let order = work.next().await.ok_or("the stream ended")?;
        orders.push(String::from_utf8(order.payload.to_vec())?);
    }
    orders.sort();
    println!("worked off: {}", orders.join(", "));

    // Request and answer.
    let mut questions = client.subscribe("shop.price").await?;
    let clerk = client.clone();
    let service = tokio::spawn(async move {
        while let Some(question) = questions.next().await {
            let Some(reply) = question.reply else {
                continue;
            };
            let answer = format!("{} bytes of question, 3 coins", question.payload.len());
            if let Err(error) = clerk.publish(reply, answer.into()).await {
                eprintln!("the answer could not be sent: {error}");
            }
        }
    });
    let answer = client.request("shop.price", "tea?".into()).await?;
    println!("answer: {:?}", answer.payload);

    // A subscription that ends by itself, and a client that ends in order.
    news.unsubscribe_after(2).await?;
    client.publish(subject, "more tea".into()).await?;
    while let Some(message) = news.next().await {
        println!("{}: {:?}", message.subject, message.payload);
    }
    client.drain().await?;
    service.await?;
    println!("drained");
    Ok(())
}
