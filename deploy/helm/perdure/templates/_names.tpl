{{/* A name of at most `limit` characters. A hash replaces what is cut off, so that two long names stay different. dict "name" "limit" */}}
{{- define "perdure.short" -}}
{{- if gt (len .name) (int .limit) -}}
{{- printf "%s-%s" (.name | trunc (int (sub .limit 9)) | trimSuffix "-") (sha256sum .name | trunc 8) -}}
{{- else -}}
{{- .name -}}
{{- end -}}
{{- end -}}

{{/* A number, boolean or text of a free-form map as text. Helm reads numbers as floats: `toString` would give 1.048576e+06. */}}
{{- define "perdure.scalar" -}}
{{- if kindIs "string" . -}}{{ . }}{{- else -}}{{ toJson . }}{{- end -}}
{{- end -}}

{{/* The chart's name, or its alias in an umbrella chart: two aliases in one release differ in nothing else. */}}
{{- define "perdure.name" -}}
{{- .Values.nameOverride | default .Chart.Name -}}
{{- end -}}

{{/* The release's name; with an alias, "release-alias". It is the default namespace of workflows, and the `release` label of metrics. */}}
{{- define "perdure.release" -}}
{{- if eq (include "perdure.name" .) "perdure" -}}
{{- .Release.Name -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "perdure.name" .) -}}
{{- end -}}
{{- end -}}

{{- define "perdure.fullname" -}}
{{- $name := include "perdure.name" . -}}
{{- $full := printf "%s-%s" .Release.Name $name -}}
{{- if .Values.fullnameOverride -}}
{{- $full = .Values.fullnameOverride -}}
{{- else if and (eq $name "perdure") (contains "perdure" .Release.Name) -}}
{{- $full = .Release.Name -}}
{{- end -}}
{{- include "perdure.short" (dict "name" $full "limit" 40) -}}
{{- end -}}

{{/* The name of a worker's resources. KEDA puts "keda-hpa-" before it in a label of at most 63 characters. dict "root" . "name" "default" */}}
{{- define "perdure.workerName" -}}
{{- include "perdure.short" (dict "name" (printf "%s-worker-%s" (include "perdure.fullname" .root) .name) "limit" 54) -}}
{{- end -}}

{{/* The prefix of topics, and the schema in PostgreSQL. */}}
{{- define "perdure.namespace" -}}
{{- .Values.namespace | default (include "perdure.release" .) -}}
{{- end -}}

{{/* Who owns the topics of the namespace: `perdure topics apply` records it, and every process checks it. */}}
{{- define "perdure.owner" -}}
{{- .Values.kafka.owner | default (printf "%s/%s" .Release.Namespace (include "perdure.fullname" .)) -}}
{{- end -}}

{{/* All pods of one release of the chart. */}}
{{- define "perdure.ours" -}}
app.kubernetes.io/name: {{ include "perdure.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{/* Of one component: dict "root" . "component" "api". Selectors are these three and never change. */}}
{{- define "perdure.selector" -}}
{{ include "perdure.ours" .root }}
app.kubernetes.io/component: {{ .component }}
{{- end -}}

{{- define "perdure.labels" -}}
{{ include "perdure.selector" . }}
app.kubernetes.io/part-of: perdure
app.kubernetes.io/version: {{ .root.Values.image.tag | default .root.Chart.AppVersion | trunc 63 | trimAll "-_." | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" | trunc 63 | trimAll "-_." }}
{{- with .root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "perdure.image" -}}
{{- with .Values.image.registry -}}{{ . }}/{{- end -}}
{{- .Values.image.repository -}}
{{- if .Values.image.digest -}}@{{ .Values.image.digest }}
{{- else -}}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}
{{- end -}}

{{- define "perdure.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- .Values.serviceAccount.name | default (include "perdure.fullname" .) -}}
{{- else -}}
{{- .Values.serviceAccount.name | default "default" -}}
{{- end -}}
{{- end -}}

{{/* Hooks run before the release's own ServiceAccount exists, so they have another. */}}
{{- define "perdure.hooksAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- printf "%s-hooks" (include "perdure.serviceAccountName" .) -}}
{{- else -}}
{{- include "perdure.serviceAccountName" . -}}
{{- end -}}
{{- end -}}

{{- define "perdure.bootstrap" -}}
{{- if eq .Values.kafka.mode "bundled" -}}
{{ include "perdure.fullname" . }}-kafka:9092
{{- else if and (eq .Values.kafka.mode "strimzi") (not .Values.kafka.bootstrapServers) -}}
{{- $isPlain := and (not .Values.kafka.strimzi.createUser) (eq .Values.kafka.security.protocol "PLAINTEXT") -}}
{{ .Values.kafka.strimzi.cluster }}-kafka-bootstrap.{{ include "perdure.strimziNamespace" . }}:{{ ternary "9092" "9093" $isPlain }}
{{- else -}}
{{ .Values.kafka.bootstrapServers }}
{{- end -}}
{{- end -}}

{{- define "perdure.strimziNamespace" -}}
{{- .Values.kafka.strimzi.namespace | default .Release.Namespace -}}
{{- end -}}

{{/* The KafkaUser. Releases of several Kubernetes namespaces may share the namespace of one Kafka. */}}
{{- define "perdure.kafkaUser" -}}
{{- if eq (include "perdure.strimziNamespace" .) .Release.Namespace -}}
{{- include "perdure.fullname" . -}}
{{- else -}}
{{- include "perdure.short" (dict "name" (printf "%s-%s" .Release.Namespace (include "perdure.fullname" .)) "limit" 63) -}}
{{- end -}}
{{- end -}}

{{/*
How a component talks to Kafka, YAML: protocol, mechanism, and the Secrets with their keys. Environment, volumes and KEDA are all made of it.
dict "root" . "values" {…}
*/}}
{{- define "perdure.kafkaSecurity" -}}
{{- $kafka := .root.Values.kafka -}}
{{- $own := (.values | default dict).kafkaSecrets | default dict -}}
{{- $found := dict "protocol" "PLAINTEXT" -}}
{{- if and (eq $kafka.mode "strimzi") $kafka.strimzi.createUser -}}
{{- $cas := $kafka.strimzi.caSecret | default (printf "%s-cluster-ca-cert" $kafka.strimzi.cluster) -}}
{{- $user := $own.tls | default $kafka.strimzi.userSecret | default (include "perdure.kafkaUser" .root) -}}
{{- $found = dict "protocol" "SSL" "caSecret" $cas "caKey" "ca.crt" "caPath" "/etc/perdure/kafka-ca"
      "tlsSecret" $user "certificateKey" "user.crt" "privateKeyKey" "user.key" -}}
{{- else if ne $kafka.mode "bundled" -}}
{{- $security := $kafka.security -}}
{{- $_ := set $found "protocol" $security.protocol -}}
{{- if hasPrefix "SASL" $security.protocol -}}
{{- $found = merge $found (dict "mechanism" $security.sasl.mechanism "saslSecret" ($own.sasl | default $security.sasl.existingSecret)
      "usernameKey" $security.sasl.usernameKey "passwordKey" $security.sasl.passwordKey) -}}
{{- end -}}
{{- with $own.tls | default $security.tls.existingSecret -}}
{{- $found = merge $found (dict "tlsSecret" . "caKey" $security.tls.caKey "caSecret" . "caPath" "/etc/perdure/kafka"
      "certificateKey" $security.tls.certificateKey "privateKeyKey" $security.tls.privateKeyKey) -}}
{{- end -}}
{{- end -}}
{{- toYaml $found -}}
{{- end -}}

{{/* Replicas of topics that the chart itself decides. */}}
{{- define "perdure.replication" -}}
{{- ternary 1 (int .Values.kafka.topics.replicationFactor) (eq .Values.kafka.mode "bundled") -}}
{{- end -}}

{{/* Whether there is a PostgreSQL. */}}
{{- define "perdure.hasPostgres" -}}
{{- if ne .Values.postgres.mode "none" -}}yes{{- end -}}
{{- end -}}

{{- define "perdure.postgresSecret" -}}
{{- if eq .Values.postgres.mode "external" -}}{{ .Values.postgres.existingSecret }}
{{- else if eq .Values.postgres.mode "cnpg" -}}{{ include "perdure.fullname" . }}-postgres-app
{{- else -}}{{ .Values.postgres.bundled.existingSecret | default (printf "%s-postgres" (include "perdure.fullname" .)) }}
{{- end -}}
{{- end -}}

{{/* Whether the release makes the password of its PostgreSQL. */}}
{{- define "perdure.makesPassword" -}}
{{- if and (eq .Values.postgres.mode "bundled") .Values.generateSecrets (not .Values.postgres.bundled.existingSecret) -}}yes{{- end -}}
{{- end -}}

{{- define "perdure.apiKeysSecret" -}}
{{- .Values.api.auth.existingSecret | default (printf "%s-api-keys" (include "perdure.fullname" .)) -}}
{{- end -}}

{{/* Whether the API reads a file of keys: from the Secret that is named, that the release makes, or that the operator makes under that name. */}}
{{- define "perdure.hasApiKeys" -}}
{{- if or .Values.api.auth.existingSecret (not .Values.api.auth.oidc.issuer) -}}yes{{- end -}}
{{- end -}}

{{/* Whether the release makes an API key. */}}
{{- define "perdure.makesApiKey" -}}
{{- if and .Values.api.enabled .Values.generateSecrets (not .Values.api.auth.existingSecret) (not .Values.api.auth.oidc.issuer) -}}yes{{- end -}}
{{- end -}}

{{/* A worker's values: its own over the defaults. dict "root" . "worker" {…} "name" "default" */}}
{{- define "perdure.worker" -}}
{{- $merged := mergeOverwrite (deepCopy .root.Values.workerDefaults) (deepCopy (.worker | default dict)) -}}
{{- if not $merged.queues }}{{ $_ := set $merged "queues" (list .name) }}{{ end -}}
{{- toYaml $merged -}}
{{- end -}}

{{/* The task queues of all workers, a JSON list. */}}
{{- define "perdure.queues" -}}
{{- $queues := list -}}
{{- range $name, $worker := .Values.workers -}}
{{- if not (kindIs "invalid" $worker) -}}
{{- $merged := include "perdure.worker" (dict "root" $ "worker" $worker "name" $name) | fromYaml -}}
{{- $queues = concat $queues $merged.queues -}}
{{- end -}}
{{- end -}}
{{- $queues | uniq | sortAlpha | toJson -}}
{{- end -}}
