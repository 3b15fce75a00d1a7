{{- define "perdure.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else if contains "perdure" .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-perdure" .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* What topics begin with, and the schema in PostgreSQL. */}}
{{- define "perdure.namespace" -}}
{{- .Values.namespace | default .Release.Name -}}
{{- end -}}

{{/* Of one component: dict "root" . "component" "api". Selectors are these two and never change. */}}
{{- define "perdure.selector" -}}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end -}}

{{- define "perdure.labels" -}}
{{ include "perdure.selector" . }}
app.kubernetes.io/name: perdure
app.kubernetes.io/part-of: perdure
app.kubernetes.io/version: {{ .root.Values.image.tag | default .root.Chart.AppVersion | trunc 63 | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" }}
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

{{- define "perdure.bootstrap" -}}
{{- if eq .Values.kafka.mode "bundled" -}}
{{ include "perdure.fullname" . }}-kafka:9092
{{- else if eq .Values.kafka.mode "strimzi" -}}
{{ .Values.kafka.strimzi.cluster }}-kafka-bootstrap.{{ .Values.kafka.strimzi.namespace | default .Release.Namespace }}:{{ ternary "9093" "9092" .Values.kafka.strimzi.createUser }}
{{- else -}}
{{ .Values.kafka.bootstrapServers }}
{{- end -}}
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
{{- else -}}{{ include "perdure.fullname" . }}-postgres{{ ternary "-app" "" (eq .Values.postgres.mode "cnpg") }}
{{- end -}}
{{- end -}}

{{- define "perdure.apiKeysSecret" -}}
{{- .Values.api.auth.existingSecret | default (printf "%s-api-keys" (include "perdure.fullname" .)) -}}
{{- end -}}

{{/* Whether the release makes an API key. */}}
{{- define "perdure.makesApiKey" -}}
{{- if and .Values.api.enabled (not .Values.api.auth.existingSecret) (not .Values.api.auth.oidc.issuer) -}}yes{{- end -}}
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
