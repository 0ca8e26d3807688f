// Package e2e names the suite, so that go.mod has its modules.
package e2e

import _ "k8s.io/kubernetes/test/e2e"
