// Tells the story with @rudderstack/rudder-sdk-node: node rudder_node.mjs '{"url", "key", "story"}'
import { createRequire } from 'node:module'

const loaded = createRequire(import.meta.url)('@rudderstack/rudder-sdk-node')
const RudderAnalytics = loaded.default ?? loaded
const { url, key, story } = JSON.parse(process.argv[2])
const { anonymousId, userId, email } = story
const analytics = new RudderAnalytics(key, {
  dataPlaneUrl: url,
  flushInterval: 200,
  errorHandler: (error) => { console.error(error); process.exitCode = 1 },
})

analytics.page({ anonymousId, name: 'Home', properties: { path: '/' } })
analytics.track({ anonymousId, event: 'Product Viewed', properties: { sku: 'a', odd: '\ud800' } })
analytics.identify({ anonymousId, userId, traits: { email, name: '安妮' } })
analytics.track({ userId, event: 'Order Completed', properties: { order_id: '1', total: 12.5 } })
analytics.group({ userId, groupId: 'acme', traits: { name: 'Acme' } })
analytics.screen({ userId, name: 'Cart' })
analytics.alias({ userId, previousId: `${anonymousId}-before` })
await analytics.flush()
